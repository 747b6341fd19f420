"""Replies gone wrong on purpose, as a model's may: they are read later and never imitated.

In: a teacher's reply. Out: the reply spoiled, now and then; a spoiler may leave it as it was. What is learned is to go
on after one.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from ajet.chat.types import ChatRequest

Spoiler = Callable[[str, ChatRequest, random.Random], str]
"""(a reply, what it answers, rng) -> the reply gone wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slips:
    """How often a reply goes wrong, and how."""

    share: float
    """Probability of a slip."""
    spoil: Spoiler
    tools_only: bool = False
    """Whether only replies that may call a tool go wrong."""

    def happens(self, request: ChatRequest, rng: random.Random) -> bool:
        """Whether the reply to this request goes wrong."""
        return (bool(request.tools) or not self.tools_only) and rng.random() < self.share


def wrong_call(text: str, request: ChatRequest, rng: random.Random) -> str:
    """A decision gone wrong: any player's name for the target, a call cut short, or no call at all.

    The name may be the one that was meant, and a call without a target (`"save": true`) stays as it is in most cases.
    """
    kind = rng.random()
    if kind < 0.6:
        return re.sub(r'"target": "\w+"', f'"target": "Player{rng.randint(1, 9)}"', text)
    return text[: text.find("<tool_call>")] if kind < 0.8 else text[: rng.randint(len(text) // 2, len(text) - 1)]


def wrong_words(text: str, request: ChatRequest, rng: random.Random) -> str:
    """A sentence gone wrong: a word of the question for one of its own, another number, cut short, or no answer.

    Some of what comes out is a legal reply that was not meant.
    """
    kind = rng.random()
    if kind < 0.4:
        asked = re.findall(r"\w+", str(request.messages[-1]["content"]))
        words = list(re.finditer(r"\w+", text))
        if asked and words:
            word = rng.choice(words)
            return f"{text[: word.start()]}{rng.choice(asked)}{text[word.end() :]}"
    if kind < 0.6:
        return re.sub(r"\d+", lambda _: str(rng.randint(0, 999)), text)
    return text[: rng.randint(0, len(text) // 2)] if kind < 0.8 else "I do not know."
