"""Word problems of one or two steps, made from numbers: `python -m ajet.workflows.math.problems <folder>`.

In: a number a problem. Out: tasks whose answers are exact, whole numbers of up to three digits; `train.jsonl` and
`held_out.jsonl`, which share no question. The files in this folder were written so. Every solution joins the numbers
in the order in which the question tells them.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from string import Formatter

from ajet.records import Task
from ajet.workflows.arithmetic import OPERATORS, chain, read_expression

NAMES = ("Anna", "Ben", "Cara", "Dan", "Ella", "Finn", "Gina", "Hugo")
THINGS = ("beads", "buttons", "cards", "cups", "marbles", "pens", "stamps", "stickers")
LARGEST = 999
"""Of all numbers in a problem, its answer and what is found on the way."""
LARGEST_FACTOR = 12
"""Of numbers to multiply with or to divide by."""
NUM_TRAIN, NUM_HELD_OUT = 600, 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A kind of word problem: three numbers, two operators, and a text with places for the numbers."""

    operators: str
    """Between the numbers a, b and c, applied from left to right."""
    text: str

    def pattern(self) -> re.Pattern[str]:
        """What questions of this kind look like."""
        parts = Formatter().parse(self.text)
        return re.compile("".join(re.escape(words) + (r"\w+" if field else "") for words, field, _, _ in parts))


TEMPLATES = (
    Template(operators="+", text="{name} has {a} {things} and finds {b} more. How many {things} does {name} have now?"),
    Template(operators="+", text="A box holds {a} red {things} and {b} blue {things}. How many {things} does it hold?"),
    Template(
        operators="-",
        text="{name} has {a} {things} and gives {b} of them to {friend}. How many {things} does {name} have left?",
    ),
    Template(
        operators="-",
        text="{name} has {a} {things} and {friend} has {b} {things}. How many more {things} does {name} have?",
    ),
    Template(
        operators="*",
        text="{name} buys {a} boxes with {b} {things} in each box. How many {things} does {name} buy?",
    ),
    Template(operators="*", text="{name} makes {a} {things} a day. How many {things} does {name} make in {b} days?"),
    Template(
        operators="/",
        text="{name} shares {a} {things} equally among {b} friends. How many {things} does each friend get?",
    ),
    Template(
        operators="/", text="{name} packs {a} {things} into bags, {b} into each bag. How many bags does {name} fill?"
    ),
    Template(
        operators="+-",
        text="{name} has {a} {things}, finds {b} more and gives {c} to {friend}. "
        "How many {things} does {name} have left?",
    ),
    Template(
        operators="--",
        text="{name} has {a} {things}, loses {b} of them and gives {c} to {friend}. "
        "How many {things} does {name} have left?",
    ),
    Template(
        operators="*+",
        text="{name} buys {a} boxes with {b} {things} in each box and finds {c} more. "
        "How many {things} does {name} have now?",
    ),
    Template(
        operators="*-",
        text="{name} buys {a} boxes with {b} {things} in each box and gives {c} {things} to {friend}. "
        "How many {things} does {name} have left?",
    ),
    Template(
        operators="+/",
        text="{name} has {a} red {things} and {b} blue {things} and shares all of them equally among {c} friends. "
        "How many {things} does each friend get?",
    ),
    Template(
        operators="-*",
        text="{name} makes {a} {things} a day and sells {b} of them. How many {things} does {name} keep in {c} days?",
    ),
)
_OPERATORS_BY_PATTERN = tuple((template.pattern(), template.operators) for template in TEMPLATES)


def problem(number: int) -> Task:
    """The problem that a number makes: a question, and its answer in the metadata."""
    rng = random.Random(number)
    template = rng.choice(TEMPLATES)
    numbers = _numbers(template.operators, rng)
    name, friend = rng.sample(NAMES, 2)
    words = {"name": name, "friend": friend, "things": rng.choice(THINGS)}
    question = template.text.format(**words, **dict(zip("abc", numbers, strict=False)))
    answer = read_expression(chain(numbers, template.operators)).value
    return Task(main_query=question, metadata={"answer": str(answer)})


def _numbers(operators: str, rng: random.Random) -> list[int]:
    """Different numbers with which every step gives a whole number from 1 to `LARGEST`."""
    while True:
        numbers = [rng.randint(2, LARGEST)]
        numbers += [rng.randint(2, LARGEST_FACTOR if name in "*/" else LARGEST) for name in operators]
        steps = [read_expression(chain(numbers[: i + 2], operators[: i + 1])).value for i in range(len(operators))]
        fits = all(step.denominator == 1 and 1 <= step <= LARGEST for step in steps)
        if fits and len(set(numbers)) == len(numbers):
            return numbers


def numbers_in(question: str) -> list[int]:
    """The numbers of a question, in their order."""
    return [int(digits) for digits in re.findall(r"\d+", question)]


def solution(question: str) -> str | None:
    """The expression that solves a question of one of the templates; None for any other question."""
    for pattern, operators in _OPERATORS_BY_PATTERN:
        if pattern.fullmatch(question):
            return chain(numbers_in(question), operators)
    return None


def attempts(question: str) -> list[str]:
    """What one might work out who sees the numbers and understands nothing; the solution is among them.

    Two numbers are joined in either order, three in theirs.
    """
    numbers = numbers_in(question)
    if len(numbers) == 2:
        return [chain(pair, name) for pair in (numbers, numbers[::-1]) for name in OPERATORS]
    return [chain(numbers, (first, second)) for first in OPERATORS for second in OPERATORS]


def _different(numbers: Iterator[int]) -> Iterator[Task]:
    """The numbers' problems without those that were there before."""
    seen = set()
    for number in numbers:
        task = problem(number)
        if task.main_query not in seen:
            seen.add(task.main_query)
            yield task


def main() -> None:
    """Write `train.jsonl` and `held_out.jsonl`, whose problems are all different, into the folder that is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    tasks = _different(count())
    for name, num_tasks in (("train", NUM_TRAIN), ("held_out", NUM_HELD_OUT)):
        lines = [
            json.dumps({"main_query": task.main_query, **task.metadata}) + "\n" for task in islice(tasks, num_tasks)
        ]
        (folder / f"{name}.jsonl").write_text("".join(lines))


if __name__ == "__main__":
    main()
