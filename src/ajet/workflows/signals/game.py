"""The signalling game's things and its players' text: what is shown, what may be answered, who scripted players are.

Pure. Lewis, Convention (1969): a speaker sees one of n objects and sends a word, a listener picks an object,
both win if it is the same. No word means anything until they agree on it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from ajet.chat.types import ChatReply, ChatRequest

OBJECTS = ("star", "moon", "tree", "fish", "lamp", "boat", "rock", "bird")
WORDS = ("ba", "do", "ki", "lu", "me", "no", "pa", "zu")


def speaker_prompt(shown: str, words: tuple[str, ...]) -> str:
    """What the speaker reads."""
    return f"Object: {shown}. Words: {' '.join(words)}. Say one word."


def listener_prompt(word: str, objects: tuple[str, ...]) -> str:
    """What the listener reads."""
    return f"Word: {word}. Objects: {' '.join(objects)}. Pick one object."


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedSignaller:
    """Speaks and understands the code in which word i means object i."""

    rng: random.Random
    accuracy: float
    """Probability of following the code; otherwise any choice, uniformly."""

    async def chat(self, request: ChatRequest) -> ChatReply:
        """Read what the prompt shows and answer by the code."""
        shown, options = _read(str(request.messages[-1]["content"]))
        code = dict(zip(OBJECTS, WORDS, strict=True)) | dict(zip(WORDS, OBJECTS, strict=True))
        follows = self.rng.random() < self.accuracy and code.get(shown) in options
        return ChatReply(content=code[shown] if follows else self.rng.choice(options))


def _read(prompt: str) -> tuple[str, list[str]]:
    shown, options, _ = prompt.split(". ")
    return shown.split(": ")[1], options.split(": ")[1].split()
