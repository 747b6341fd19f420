"""Countdown's rules, pure: puzzles from numbers, what a player reads, and the verdict on a reply.

The rule is TinyZero's (github.com/Jiayi-Pan/TinyZero, verl/utils/reward_score/countdown.py): every given number is used
exactly once. On television numbers may be left out. Here the value is exact, nothing is evaluated as Python, and there
is no credit for a legal expression that misses the target.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import Literal

from ajet.chat.types import ChatReply, ChatRequest
from ajet.workflows.arithmetic import OPERATORS, ExpressionError, chain, read_expression
from ajet.workflows.sensible import SensiblePlayer

MAX_ATTEMPTS = 48
"""Replies that a scripted player chooses among: all that it knows for three numbers, a sample for more."""
_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
Kind = Literal["right", "missed", "illegal", "unboxed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Puzzle:
    """Example: numbers (3, 5, 2) and target 16, which `(3 + 5) * 2` reaches."""

    numbers: tuple[int, ...]
    target: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a reply is worth, and why in a sentence."""

    kind: Kind
    words: str


def deal(random_number: int, *, num_numbers: int, max_number: int, max_target: int) -> Puzzle:
    """The puzzle of this number. It has a solution: one of `attempts`."""
    rng = random.Random(random_number)
    while True:
        numbers = [rng.randint(1, max_number) for _ in range(num_numbers)]
        numbers[:2] = sorted(numbers[:2], reverse=True)
        value = read_expression(chain(numbers, rng.choices(list(OPERATORS), k=num_numbers - 1))).value
        if value.denominator == 1 and 1 <= value <= max_target:
            return Puzzle(numbers=tuple(sorted(numbers)), target=int(value))


def prompt(puzzle: Puzzle) -> str:
    """The one message of a task: numbers, target, rules, and the form of the answer."""
    return (
        f"Numbers: {', '.join(map(str, puzzle.numbers))}. Target: {puzzle.target}. "
        "Reach the target with + - * / and parentheses. Use each number exactly once. "
        "Give the expression as \\boxed{expression}."
    )


def read_prompt(text: str) -> Puzzle:
    """The puzzle that a prompt tells."""
    target, numbers = (re.findall(r"\d+", part) for part in reversed(text.split(". ")[:2]))
    return Puzzle(numbers=tuple(map(int, numbers)), target=int(target[0]))


def verdict(puzzle: Puzzle, reply: str) -> Verdict:
    """Judge the last boxed expression of a reply."""
    boxes = _BOXED.findall(reply)
    if not boxes:
        return Verdict(kind="unboxed", words="There is no \\boxed{expression}.")
    try:
        expression = read_expression(boxes[-1])
    except ExpressionError as error:
        return Verdict(kind="illegal", words=f"The expression cannot be used: {error}.")
    # Compared as they are written: 3.0 or 35 is not among 3 and 5.
    if Counter(expression.numbers) != Counter(map(str, puzzle.numbers)):
        return Verdict(kind="illegal", words="The expression does not use each number exactly once.")
    if expression.value != puzzle.target:
        return Verdict(kind="missed", words=f"The expression is {expression.value}, not {puzzle.target}.")
    return Verdict(kind="right", words="The target is reached.")


def attempts(numbers: Sequence[int]) -> list[str]:
    """Legal expressions: the numbers in any order, joined from left to right, the larger one of the first two first."""
    orders = [order for order in permutations(numbers) if order[0] >= order[1]]
    operators = list(product(OPERATORS, repeat=len(numbers) - 1))
    return list(dict.fromkeys(chain(order, names) for order in orders for names in operators))


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedCounter(SensiblePlayer):
    """Knows the puzzle's solutions among `attempts`; teacher of the small model."""

    def replies(self, request: ChatRequest) -> tuple[Sequence[ChatReply], Sequence[ChatReply]]:
        """Solutions of the puzzle are sensible, any expression of its numbers is legal."""
        asked = str(request.messages[0]["content"])
        puzzle = read_prompt(asked)
        legal = attempts(puzzle.numbers)
        solutions = [attempt for attempt in legal if read_expression(attempt).value == puzzle.target]
        return _boxed(_some(solutions, asked)), _boxed(_some(legal, asked))


def _some(texts: list[str], asked: str) -> list[str]:
    """At most `MAX_ATTEMPTS` of the texts, the same ones whenever the same is asked."""
    return texts if len(texts) <= MAX_ATTEMPTS else random.Random(asked).sample(texts, MAX_ATTEMPTS)


def _boxed(texts: list[str]) -> list[ChatReply]:
    return [ChatReply(content=f"\\boxed{{{text}}}") for text in texts]
