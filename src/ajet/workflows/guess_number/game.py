"""The guessing game's rules and text, and its scripted player.

Pure. Every answer repeats the range that is left, so that the last message alone tells what to guess; the conversation
only grows at its end. Left out: units, hints, negative numbers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from typing_extensions import override

from ajet.chat.types import ChatReply, ChatRequest
from ajet.workflows.sensible import SensiblePlayer


def rules(num_numbers: int, num_guesses: int) -> str:
    """The system prompt: the range, how many guesses there are, and the form of a reply."""
    return (
        f"Guess my number, a whole number from 1 to {num_numbers}. You have {num_guesses} guesses. "
        "After each I say higher or lower. Reply with a number only."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is known after some guesses. Example: 16 of 31 was too low: low=17, high=31, guesses_left=4."""

    low: int
    """Smallest number that is still possible."""
    high: int
    """Largest number that is still possible."""
    guesses_left: int
    heard: str = ""
    """How the last guess was answered; empty before the first."""

    def after(self, guess: int | None, secret: int) -> State:
        """What is known after a wrong guess; None is a reply without a number, which costs a guess, too."""
        left = self.guesses_left - 1
        if guess is None:
            return State(low=self.low, high=self.high, guesses_left=left, heard="That is not a number.")
        if guess < secret:
            return State(low=max(self.low, guess + 1), high=self.high, guesses_left=left, heard="Higher.")
        return State(low=self.low, high=min(self.high, guess - 1), guesses_left=left, heard="Lower.")

    def as_text(self) -> str:
        """What the guesser reads. Example: "Higher. It is from 17 to 31. Guesses left: 4."."""
        return f"{self.heard} It is from {self.low} to {self.high}. Guesses left: {self.guesses_left}.".strip()


def num_bisections(num_numbers: int) -> int:
    """Guesses in which bisection always finds the number: 5 for 31, 6 for 32."""
    return num_numbers.bit_length()


def parse_guess(reply: str) -> int | None:
    """The number that a reply's last line is, a full stop aside; None if it is anything else.

    A model may think on the lines before.
    """
    match = re.fullmatch(r"([0-9]{1,6})\.?", reply.strip().rpartition("\n")[2].strip())
    return None if match is None else int(match[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedGuesser(SensiblePlayer):
    """Guesses the middle of what is left, of two the lower, or anything that is left; teacher of the small model."""

    @override
    def replies(self, request: ChatRequest) -> tuple[Sequence[ChatReply], Sequence[ChatReply]]:
        """Reads the range in the last message."""
        low, high = _read_range(str(request.messages[-1]["content"]))
        legal = [ChatReply(content=str(guess)) for guess in range(low, high + 1)]
        return [legal[(high - low) // 2]], legal


def _read_range(said: str) -> tuple[int, int]:
    match = re.search(r"It is from (\d+) to (\d+)\.", said)
    assert match is not None, said
    return int(match[1]), int(match[2])
