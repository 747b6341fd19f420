"""The workflow `countdown`: its puzzles, the verdict, its turns and the scripted counter."""

from __future__ import annotations

import random

import pytest
from pydantic import ValidationError
from tests.scripted_play import Reciter, play, scripted

from ajet.chat.types import ChatReply, ChatRequest
from ajet.errors import ConfigError
from ajet.records import Task
from ajet.workflows.arithmetic import read_expression
from ajet.workflows.countdown.game import (
    MAX_ATTEMPTS,
    Puzzle,
    ScriptedCounter,
    attempts,
    deal,
    prompt,
    read_prompt,
    verdict,
)
from ajet.workflows.countdown.workflow import Countdown

PUZZLE = Puzzle(numbers=(2, 3, 5), target=16)
ASKED = ChatRequest(messages=[{"role": "user", "content": prompt(PUZZLE)}])


def task(number: int) -> Task:
    return Task(task_id=f"t{number}", metadata={"random_number": number})


def success_rate(workflow: Countdown, sense: float, num_tasks: int) -> float:
    outputs = [
        play(workflow, task(number), scripted(workflow, str(number), sense=sense)) for number in range(num_tasks)
    ]
    assert all(output.log_metrics == {"illegal": 0.0, "unboxed": 0.0} for output in outputs)
    return sum(output.is_success is True for output in outputs) / num_tasks


@pytest.mark.parametrize(("num_numbers", "max_number"), [(3, 20), (4, 20), (3, 2), (4, 99)])
def test_every_puzzle_has_a_solution_within_its_bounds(num_numbers: int, max_number: int) -> None:
    for number in range(100):
        puzzle = deal(number, num_numbers=num_numbers, max_number=max_number, max_target=100)
        assert len(puzzle.numbers) == num_numbers and all(1 <= given <= max_number for given in puzzle.numbers)
        assert 1 <= puzzle.target <= 100
        assert any(read_expression(text).value == puzzle.target for text in attempts(puzzle.numbers))


def test_a_number_deals_the_same_puzzle_each_time() -> None:
    dealt = [deal(number, num_numbers=3, max_number=20, max_target=100) for number in (7, 7, 8)]
    assert dealt[0] == dealt[1] != dealt[2]


def test_the_prompt_tells_the_puzzle() -> None:
    assert prompt(PUZZLE).startswith("Numbers: 2, 3, 5. Target: 16. ")
    assert read_prompt(prompt(PUZZLE)) == PUZZLE


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ("\\boxed{(3 + 5) * 2}", "right"),
        ("\\boxed{2*(5+3)}", "right"),
        ("First \\boxed{3 + 5}, then \\boxed{(5 + 3) * 2}.", "right"),
        ("\\boxed{(3 + 5) * 2} or rather \\boxed{3 + 5 + 2}", "missed"),
        ("\\boxed{3 * 5 + 2}", "missed"),
        ("\\boxed{2 * 5 + 3 + 3}", "illegal"),  # a number twice
        ("\\boxed{3 * 5 + 1}", "illegal"),  # a number that is not given
        ("\\boxed{16}", "illegal"),
        ("\\boxed{3 + 5}", "illegal"),  # a number left out
        ("\\boxed{35 - 2}", "illegal"),  # digits put together
        ("\\boxed{(3.0 + 5) * 2}", "illegal"),
        ("\\boxed{(3 + 5) * 2 + 0}", "illegal"),
        ("\\boxed{-(-3 - 5) * 2}", "illegal"),
        ("\\boxed{(3 + 5) ** 2}", "illegal"),
        ("\\boxed{(3 + 5) * 2 = 16}", "illegal"),
        ("\\boxed{(3 + 5) * 2 # 16}", "illegal"),
        ("\\boxed{(3 + 5) / (2 - 2)}", "illegal"),
        ("\\boxed{}", "illegal"),
        ("(3 + 5) * 2", "unboxed"),
        ("\\boxed{(3 + 5) * 2", "unboxed"),
        ("", "unboxed"),
    ],
)
def test_the_verdict_on_a_reply(reply: str, kind: str) -> None:
    assert verdict(PUZZLE, reply).kind == kind


def test_a_result_between_whole_numbers_counts_exactly() -> None:
    assert verdict(Puzzle(numbers=(1, 3, 3), target=1), "\\boxed{1 / 3 * 3}").kind == "right"
    # 5 / (1 - 1 / 6) is 6 in fractions, and 5.999... or 6.000... in floats.
    assert verdict(Puzzle(numbers=(1, 1, 5, 6), target=6), "\\boxed{5 / (1 - 1 / 6)}").kind == "right"


def test_a_miss_or_an_unusable_reply_ends_the_only_turn_without_a_reward() -> None:
    for reply, metrics in (("\\boxed{}", (1.0, 0.0)), ("I pass.", (0.0, 1.0))):
        reciter = Reciter([ChatReply(content=reply)])
        output = play(Countdown(), task(0), lambda tag, reciter=reciter: reciter)  # type: ignore[misc]
        assert (output.reward, output.is_success) == (0.0, False)
        assert (output.log_metrics["illegal"], output.log_metrics["unboxed"]) == metrics


def test_with_more_turns_the_counter_is_told_what_is_wrong() -> None:
    puzzle = deal(0, num_numbers=3, max_number=20, max_target=100)
    (right,) = ScriptedCounter(rng=random.Random(0), sense=1.0).replies(
        ChatRequest(messages=[{"role": "user", "content": prompt(puzzle)}])
    )[0][:1]
    reciter = Reciter([ChatReply(content="Hm."), ChatReply(content="\\boxed{1}"), right])
    output = play(Countdown(max_turns=3), task(0), lambda tag: reciter)
    assert reciter.requests[1].messages[-1]["content"] == "There is no \\boxed{expression}. Try again."
    assert "each number exactly once. Try again." in reciter.requests[2].messages[-1]["content"]
    assert output.reward == 1.0 and output.log_metrics == {"illegal": 1.0, "unboxed": 1.0}


def test_attempts_join_any_order_from_left_to_right() -> None:
    legal = attempts((2, 3, 5))
    assert len(legal) == 48 and {"(5 + 3) * 2", "3 * 2 - 5", "5 / 2 + 3"} <= set(legal)
    assert "2 - 3 + 5" not in legal
    assert attempts((7, 7, 7))[:2] == ["7 + 7 + 7", "7 + 7 - 7"] and len(attempts((7, 7, 7))) == 16


def test_a_counters_odds_are_those_of_a_solution_or_any_attempt() -> None:
    odds = dict(ScriptedCounter(rng=random.Random(0), sense=0.5).choices(ASKED))
    assert len(odds) == 48 and sum(odds.values()) == pytest.approx(1.0)
    # (5 + 3) * 2 alone reaches 16.
    assert odds[ChatReply(content="\\boxed{(5 + 3) * 2}")] == pytest.approx(0.5 + 0.5 / 48)
    assert odds[ChatReply(content="\\boxed{3 * 2 - 5}")] == pytest.approx(0.5 / 48)


def test_four_numbers_leave_a_few_dozen_choices_the_same_each_time() -> None:
    asked = ChatRequest(messages=[{"role": "user", "content": prompt(Puzzle(numbers=(2, 3, 5, 7), target=17))}])
    first, again = (ScriptedCounter(rng=random.Random(seed), sense=0.5).choices(asked) for seed in (0, 1))
    assert first == again and MAX_ATTEMPTS <= len(first) <= 2 * MAX_ATTEMPTS


def test_a_sensible_counter_is_right_and_a_random_one_seldom() -> None:
    assert success_rate(Countdown(), 1.0, 100) == 1.0
    assert success_rate(Countdown(num_numbers=4), 1.0, 20) == 1.0
    assert 0.01 <= success_rate(Countdown(), 0.0, 300) <= 0.15


@pytest.mark.parametrize(
    ("params", "reason"),
    [({"sense": -0.5}, "a probability is between 0 and 1"), ({"accuracy": 0.5}, "scripted players have sense")],
)
def test_parameters_that_scripted_players_do_not_have_are_refused(params: dict[str, float], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        scripted(Countdown(), "0", **params)("counter")


@pytest.mark.parametrize("params", [{"num_numbers": 5}, {"max_number": 1}, {"max_target": 5}, {"max_turns": 0}])
def test_puzzles_that_cannot_be_are_refused(params: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match=next(iter(params))):
        Countdown(**params)
