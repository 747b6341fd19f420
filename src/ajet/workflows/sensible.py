"""Scripted players whose every decision is sensible or random, by one coin: `opponent.params.sense`."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from ajet.chat.types import ChatReply, ChatRequest
from ajet.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class SensiblePlayer(ABC):
    """Subclasses say which replies there are; this draws among them and tells all of them with their odds."""

    rng: random.Random
    sense: float
    """Probability of one of the sensible replies, uniformly; otherwise any legal one, uniformly."""

    @classmethod
    def of(cls, rng: random.Random, params: Mapping[str, float]) -> Self:
        """A player with `opponent.params`; `sense` is 1 where it is not given.

        Raises:
            ConfigError: an unknown name, or a number that is not a probability.
        """
        for name, value in params.items():
            if name != "sense":
                raise ConfigError(f"opponent.params.{name}: this workflow's scripted players have sense")
            if not 0 <= value <= 1:
                raise ConfigError(f"opponent.params.sense={value}: a probability is between 0 and 1")
        return cls(rng=rng, sense=params.get("sense", 1.0))

    @abstractmethod
    def replies(self, request: ChatRequest) -> tuple[Sequence[ChatReply], Sequence[ChatReply]]:
        """The sensible replies and the legal ones, at least one of each; few enough to tell every one's odds."""

    async def chat(self, request: ChatRequest) -> ChatReply:
        """Draw one reply, with the probabilities of `choices`."""
        choices = self.choices(request)
        return self.rng.choices([reply for reply, _ in choices], [chance for _, chance in choices])[0]

    def choices(self, request: ChatRequest) -> list[tuple[ChatReply, float]]:
        """Every reply that `chat` might give, with its probability."""
        odds: dict[ChatReply, float] = defaultdict(float)
        for replies, share in zip(self.replies(request), (self.sense, 1 - self.sense), strict=True):
            for reply in replies:
                odds[reply] += share / len(replies)
        return list(odds.items())
