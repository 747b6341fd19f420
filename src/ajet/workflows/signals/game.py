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
    """The object that is shown and the words to choose from."""
    return f"Object: {shown}. Words: {' '.join(words)}. Say one word."


def listener_prompt(word: str, objects: tuple[str, ...]) -> str:
    """The word that the speaker sent and the objects to choose from."""
    return f"Word: {word}. Objects: {' '.join(objects)}. Pick one object."


SHARED_CODE, DIALECTS = 0, 1
"""Values of the scripted players' parameter `code`."""
_SPEAKERS = ((0, 1, 2, 3, 4, 5, 6, 7), (1, 2, 3, 0, 5, 6, 7, 4))
_LISTENERS = ((0, 1, 2, 3, 4, 5, 6, 7), (1, 3, 0, 2, 5, 7, 4, 6))
"""By code: which word a speaker has for each object, and which object a listener takes each word for. With the
dialects one object of four is understood, as by chance: two players who each hold to theirs do not start agreed."""
_MEANINGS = tuple(
    {thing: WORDS[word] for thing, word in zip(OBJECTS, words, strict=True)}
    | {word: OBJECTS[seen] for word, seen in zip(WORDS, seens, strict=True)}
    for words, seens in zip(_SPEAKERS, _LISTENERS, strict=True)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedSignaller:
    """Speaks and understands one code."""

    rng: random.Random
    accuracy: float
    """Probability of following the code; otherwise any choice, uniformly."""
    code: int = SHARED_CODE

    async def chat(self, request: ChatRequest) -> ChatReply:
        """Read what the prompt shows and answer by the code."""
        choices = self.choices(request)
        return self.rng.choices([reply for reply, _ in choices], [chance for _, chance in choices])[0]

    def choices(self, request: ChatRequest) -> list[tuple[ChatReply, float]]:
        """Every reply that `chat` might give, with its probability."""
        shown, options = _read(str(request.messages[-1]["content"]))
        meant = _MEANINGS[self.code].get(shown)
        accuracy = self.accuracy if meant in options else 0.0
        return [
            (ChatReply(content=option), (1 - accuracy) / len(options) + accuracy * (option == meant))
            for option in options
        ]


def _read(prompt: str) -> tuple[str, list[str]]:
    shown, options, _ = prompt.split(". ")
    return shown.split(": ")[1], options.split(": ")[1].split()
