"""The frozen lake as text: what a walker reads, what it may answer, which steps are good, and a scripted walker.

Pure; the walking itself is gymnasium's. A lake is its rows, as gymnasium writes them; a cell is (row, column) from 0 at
the top left, and from 1 where a walker reads it. The map is told once, later messages only say what lies around: the
last message has what most decisions need, the first one the rest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ajet.chat.types import ChatReply, ChatRequest, Message
from ajet.workflows.sensible import SensiblePlayer

Lake = tuple[str, ...]
"""Example: ("SFFF", "FHFH", "FFFH", "HFFG")."""
Cell = tuple[int, int]

MOVES: Mapping[str, Cell] = {"left": (0, -1), "down": (1, 0), "right": (0, 1), "up": (-1, 0)}
"""gymnasium's actions 0 to 3 in their order: by how much row and column change."""
SLIPPERY = "The ice is slippery: you may slide to either side of where you step."
_CONTENT = {"S": "ice", "F": "ice", "H": "hole", "G": "goal"}


def rules(*, slippery: bool, max_turns: int) -> str:
    """The system prompt: the lake's letters, whether the ice is slippery, the turns, the form of a reply."""
    sentences = [
        "You walk over a frozen lake from S to G. F is ice, H is a hole: if you fall in, you have lost.",
        SLIPPERY if slippery else "",
        f"You have {max_turns} turns. Each turn, reply with one word: up, down, left or right.",
    ]
    return " ".join(filter(None, sentences))


def map_text(lake: Lake) -> str:
    """A line a row, with spaces, so that a cell is a token."""
    return "\n".join(" ".join(row) for row in lake)


def view_text(lake: Lake, cell: Cell) -> str:
    """Where the walker is, what lies in each direction and where the goal is."""
    row, column = cell
    around = " ".join(f"{move.capitalize()}: {_seen(lake, cell, move)}." for move in ("up", "down", "left", "right"))
    offsets = {"down": len(lake) - 1 - row, "right": len(lake[0]) - 1 - column}
    goal = ", ".join(f"{offset} {move}" for move, offset in offsets.items() if offset)
    return f"You are in row {row + 1}, column {column + 1}. {around} The goal is {goal}."


def _seen(lake: Lake, cell: Cell, move: str) -> str:
    row, column = landing(lake, cell, move)
    return "edge" if (row, column) == cell else _CONTENT[lake[row][column]]


def parse_move(reply: str) -> str | None:
    """The move that a reply's last line is, case and a full stop aside; None if it is anything else.

    A model may think on the lines before.
    """
    word = reply.strip().rpartition("\n")[2].strip().removesuffix(".").lower()
    return word if word in MOVES else None


def landing(lake: Lake, cell: Cell, move: str) -> Cell:
    """Where a step leads that does not slip; at an edge it leads nowhere."""
    (row, column), (down, right) = cell, MOVES[move]
    return min(max(row + down, 0), len(lake) - 1), min(max(column + right, 0), len(lake[0]) - 1)


_DISCOUNT = 0.99
"""Of two ways that are equally safe the shorter one is better."""


@lru_cache(maxsize=4096)
def best_moves(lake: Lake, *, slippery: bool) -> Mapping[Cell, tuple[str, ...]]:
    """The best moves at each cell of ice, by value iteration.

    On firm ice these are the moves on a shortest safe path; on slippery ice a step goes where it should or to either
    side, a third each, as gymnasium has it.
    """
    ice = [(r, c) for r, row in enumerate(lake) for c, content in enumerate(row) if content in "SF"]
    values = {(r, c): float(content == "G") for r, row in enumerate(lake) for c, content in enumerate(row)}

    def value(cell: Cell, move: str) -> float:
        moves = list(MOVES)
        i = moves.index(move)
        steps = (moves[i - 1], move, moves[(i + 1) % len(moves)]) if slippery else (move,)
        return _DISCOUNT * sum(values[landing(lake, cell, step)] for step in steps) / len(steps)

    change = 1.0
    while change > 1e-6:
        new = {cell: max(value(cell, move) for move in MOVES) for cell in ice}
        change = max(abs(new[cell] - values[cell]) for cell in ice)
        values |= new
    return {
        cell: tuple(move for move in MOVES if math.isclose(value(cell, move), values[cell], abs_tol=1e-4))
        for cell in ice
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedWalker(SensiblePlayer):
    """Reads the map and its place from its request and takes a best move, or any of the four; teacher of the small
    model."""

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
