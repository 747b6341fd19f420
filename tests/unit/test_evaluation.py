"""Scores, paired differences and their intervals, against textbook numbers and by simulation."""

from __future__ import annotations

import json
import math
import random

import pytest

from ajet.evaluation.scores import evaluation_from_json, mean_interval, paired_difference, score_groups
from ajet.records import Episode, EpisodeGroup, Task


def episode(task: str, reward: float, *, success: bool | None = None, status: str = "ok") -> Episode:
    return Episode(
        task=Task(task_id=task),
        repeat=0,
        status=status,  # type: ignore[arg-type]
        rewards={"P1": reward} if status == "ok" else {},
        agent_tags={"P1": "seer"},
        calls=(),
        is_success=success,
    )


def group(*episodes: Episode) -> EpisodeGroup:
    return EpisodeGroup(task=episodes[0].task, episodes=episodes)


def test_the_t_interval_of_five_numbers_is_the_textbook_one() -> None:
    # Mean 3, s = sqrt(2.5), t(0.975, 4) = 2.776445: half width 2.776445 * sqrt(2.5 / 5) = 1.963243.
    interval = mean_interval([1, 2, 3, 4, 5], confidence=0.95)
    assert (interval.mean, interval.num) == (3.0, 5)
    assert interval.low == pytest.approx(3 - 1.963243, abs=1e-5)
    assert interval.high == pytest.approx(3 + 1.963243, abs=1e-5)


def test_one_value_proves_nothing() -> None:
    interval = mean_interval([0.7], confidence=0.95)
    assert (interval.low, interval.high) == (-math.inf, math.inf)


def test_pairs_are_matched_by_task_and_unmatched_tasks_are_left_out() -> None:
    difference = paired_difference({"a": 0, "b": 1, "c": 0}, {"a": 1, "b": 1, "d": 1}, confidence=0.95)
    assert difference.num == 2 and difference.mean == 0.5


def test_ninety_five_percent_of_intervals_hold_the_true_difference() -> None:
    rng = random.Random(3)
    hits, trials = 0, 600
    for _ in range(trials):
        before = {str(i): float(rng.random() < 0.3) for i in range(100)}
        after = {str(i): float(rng.random() < 0.5) for i in range(100)}
        interval = paired_difference(before, after, confidence=0.95)
        hits += interval.low <= 0.2 <= interval.high
    # Binomial(600, .95) has a standard deviation of .009.
    assert abs(hits / trials - 0.95) < 0.03


def test_a_score_is_the_success_rate_or_else_the_reward() -> None:
    scored = score_groups([group(episode("a", 5.0, success=True), episode("a", 5.0, success=False))])
    assert scored.scores == {"a": 0.5} and scored.rewards == {"seer": {"a": 5.0}}
    assert score_groups([group(episode("a", 5.0))]).scores == {"a": 5.0}


def test_a_lost_episode_is_counted_and_never_a_zero() -> None:
    scored = score_groups(
        [group(episode("a", 1.0), episode("a", 0.0, status="timeout")), group(episode("b", 0, status="infra_error"))]
    )
    assert scored.scores == {"a": 1.0} and scored.num_lost_tasks == 1


def test_an_evaluation_survives_the_way_through_json() -> None:
    scored = score_groups([group(episode("a", 1.0, success=True))])
    assert evaluation_from_json(json.loads(json.dumps(scored.to_json()))) == scored
