"""A scripted walker: it reads the map and its place from its request and sees nothing else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ajet.chat.types import ChatReply, ChatRequest, Message
from ajet.workflows.frozenlake.game import MOVES, SLIPPERY, best_moves
from ajet.workflows.sensible import SensiblePlayer


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedWalker(SensiblePlayer):
    """Takes a best move, or any of the four; teacher of the small model."""

    def replies(self, request: ChatRequest) -> tuple[Sequence[ChatReply], Sequence[ChatReply]]:
        """Moves of the best walk from here are sensible, all four are legal."""
        best = _best_moves_here(request.messages)
        return [ChatReply(content=move) for move in best], [ChatReply(content=move) for move in MOVES]


def _best_moves_here(messages: Sequence[Message]) -> tuple[str, ...]:
    rules, first_view, last_view = (str(messages[i]["content"]) for i in (0, 1, -1))
    lake = tuple(line.replace(" ", "") for line in re.findall(r"^[SFHG ]+$", first_view, re.MULTILINE))
    place = re.search(r"row (\d+), column (\d+)", last_view)
    assert place is not None, last_view
    return best_moves(lake, slippery=SLIPPERY in rules)[int(place[1]) - 1, int(place[2]) - 1]
