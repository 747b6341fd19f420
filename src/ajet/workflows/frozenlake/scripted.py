"""A scripted walker: it reads the map and its place from its request and sees nothing else."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ajet.chat.types import ChatReply, ChatRequest, Message
from ajet.errors import ConfigError
from ajet.workflows.frozenlake.game import MOVES, SLIPPERY, best_moves


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedWalker:
    """Takes a best move, or any."""

    rng: random.Random
    sense: float
    """Probability of a best move (one of them, where there are several); otherwise any of the four, uniformly."""

    async def chat(self, request: ChatRequest) -> ChatReply:
        """Read the request and step."""
        choices = self.choices(request)
        return self.rng.choices([reply for reply, _ in choices], [chance for _, chance in choices])[0]

    def choices(self, request: ChatRequest) -> list[tuple[ChatReply, float]]:
        """Every reply that `chat` might give, with its probability."""
        best = _best_moves_here(request.messages)
        return [
            (ChatReply(content=move), (1 - self.sense) / len(MOVES) + self.sense * (move in best) / len(best))
            for move in MOVES
        ]


def scripted_walker(rng: random.Random, params: Mapping[str, float]) -> ScriptedWalker:
    """A walker by `opponent.params`: `sense` (default 1).

    Raises:
        ConfigError: an unknown name, or a number that is no probability.
    """
    for name, value in params.items():
        if name != "sense":
            raise ConfigError(f"opponent.params.{name}: scripted frozenlake players have sense")
        if not 0 <= value <= 1:
            raise ConfigError(f"opponent.params.sense={value}: a probability is between 0 and 1")
    return ScriptedWalker(rng=rng, sense=params.get("sense", 1.0))


def _best_moves_here(messages: Sequence[Message]) -> tuple[str, ...]:
    rules, first_view, last_view = (str(messages[i]["content"]) for i in (0, 1, -1))
    lake = tuple(line.replace(" ", "") for line in re.findall(r"^[SFHG ]+$", first_view, re.MULTILINE))
    place = re.search(r"row (\d+), column (\d+)", last_view)
    assert place is not None, last_view
    return best_moves(lake, slippery=SLIPPERY in rules)[int(place[1]) - 1, int(place[2]) - 1]
