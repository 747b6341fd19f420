"""Paired differences where most pairs tie or rates are near 0 or 1: coverage, and agreement with the test."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ajet.evaluate.statistics import (
    crossed_level,
    crossed_mean,
    difference_interval,
    paired_difference,
    paired_p_value,
    pairs_needed,
    score_scale,
    tasks_needed,
)

NUM_PAIRS = (16, 64, 300)
RATES = (0.02, 0.5, 0.98)
LIKENESS = (0.0, 0.7, 0.95, 0.995)
"""Correlations of a task's outcome before and after; the last are nearly identical policies."""


def by_task(values: list[float]) -> dict[str, float]:
    return {str(i): value for i, value in enumerate(values)}


@cache
def of_counts(gained: int, lost: int, num: int) -> tuple[float, float]:
    values = [1.0] * gained + [-1.0] * lost + [0.0] * (num - gained - lost)
    found = difference_interval(values, confidence=0.95)
    return found.low, found.high


def exact_coverage(num: int, gains: float, losses: float) -> float:
    """The probability that the interval holds `gains - losses`, those of a pair: summed over all likely counts."""
    covered = 0.0
    for changed in range(num + 1):
        of_changed = float(stats.binom.pmf(changed, num, gains + losses))
        if of_changed < 1e-5:
            continue
        chances = stats.binom.pmf(np.arange(changed + 1), changed, gains / (gains + losses))
        for gained in np.flatnonzero(chances > 1e-4):
            low, high = of_counts(int(gained), changed - int(gained), num)
            covered += of_changed * float(chances[gained]) * (low <= gains - losses <= high)
    return covered


@pytest.mark.parametrize("num", NUM_PAIRS)
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("change", [0.0, 0.1, -0.1])
def test_intervals_of_won_and_lost_pairs_cover_as_often_as_they_say(num: int, rate: float, change: float) -> None:
    other = rate + change
    if not 0 < other < 1:
        return
    for likeness in LIKENESS:
        both = rate * other + likeness * math.sqrt(rate * (1 - rate) * other * (1 - other))
        both = min(both, min(rate, other) - 1e-4)
        # Counts are whole numbers, so that coverage jumps: .9435 is the least, where 300 pairs can only gain.
        assert exact_coverage(num, other - both, rate - both) > (0.949 if change == 0 else 0.94)


@pytest.mark.parametrize("num", NUM_PAIRS)
@pytest.mark.parametrize("rate", RATES)
def test_so_do_intervals_of_tasks_that_are_played_four_times(num: int, rate: float) -> None:
    rng = np.random.default_rng(3)
    num_trials = 400
    for spread in (0.0, 0.05):
        covered = 0
        for _ in range(num_trials):
            # Tasks differ in difficulty, which before and after share; both have the same rate.
            rates = np.clip(rate + spread * rng.choice((-1.0, 1.0), num), 0, 1)
            before, after = (rng.binomial(4, rates) / 4 for _ in range(2))
            found = paired_difference(by_task(before.tolist()), by_task(after.tolist()), confidence=0.95)
            covered += found.low <= 0.0 <= found.high
        assert covered / num_trials > 0.95 - 3 * math.sqrt(0.95 * 0.05 / num_trials)


def test_pairs_that_all_tie_still_leave_room_for_what_was_not_seen() -> None:
    # Two pairs besides, +1 and -1: standard deviation sqrt(2 / 301), of 302; t(0.975, 299) = 1.96793.
    found = difference_interval([0.0] * 300, confidence=0.95)
    assert (found.low, found.high) == pytest.approx((-0.009231, 0.009231), abs=1e-6)
    # Rewards of -1 and 1 differ by 2.
    assert score_scale(by_task([1.0, -1.0]), by_task([1.0, -1.0])) == 2.0
    twice = paired_difference(by_task([1.0, -1.0] * 150), by_task([1.0, -1.0] * 150), confidence=0.95)
    assert twice.high == pytest.approx(2 * found.high)


@pytest.mark.parametrize("num", [2, 3, 4, 5, 6])
def test_pairs_that_all_gain_are_as_convincing_as_all_signs_agreeing(num: int) -> None:
    p_value = paired_p_value(by_task([0.0] * num), by_task([1.0] * num))
    assert p_value == pytest.approx(2 / 2**num, abs=0.03)


def test_no_interval_leaves_what_is_possible() -> None:
    found = difference_interval([1.0] * 5, confidence=0.95)
    assert found.high == 1.0 and found.mean == 1.0 and found.low < 0.3


@given(
    st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.0, 0.0, 0.25, 0.5, 1.0]), min_size=2, max_size=30),
    st.sampled_from([0.8, 0.95]),
)
def test_an_interval_leaves_out_zero_exactly_where_the_p_value_is_below_the_level(
    values: list[float], confidence: float
) -> None:
    before, after = by_task([0.0] * len(values)), by_task(values)
    found = paired_difference(before, after, confidence=confidence)
    p_value = paired_p_value(before, after)
    assert found.low <= found.mean <= found.high
    if abs(p_value - (1 - confidence)) > 1e-9:
        assert (found.low > 0 or found.high < 0) == (p_value < 1 - confidence)


def test_pairs_needed_of_rare_gains_find_them_as_often_as_they_say() -> None:
    # One pair in twenty gains; none loses.
    needed = pairs_needed([1.0] + [0.0] * 19, confidence=0.95, power=0.8)
    assert needed is not None
    num_gained = np.arange(needed + 1)
    chances = stats.binom.pmf(num_gained, needed, 0.05)
    power = sum(
        float(chance)
        for gained, chance in zip(num_gained.tolist(), chances, strict=True)
        if chance > 1e-9 and of_counts(gained, 0, needed)[0] > 0
    )
    assert 0.7 < power < 0.92


def test_seeds_that_agree_on_every_task_say_what_their_pairs_say() -> None:
    values = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    alone = difference_interval(values, confidence=0.95)
    found = crossed_mean([by_task(values)] * 2, confidence=0.95)
    assert (found.interval.mean, found.interval.low, found.interval.high) == pytest.approx(
        (alone.mean, alone.low, alone.high)
    )
    assert found.p_value == pytest.approx(paired_p_value(by_task([0.0] * 8), by_task(values)), rel=1e-6)
    assert tasks_needed([by_task(values)] * 2, confidence=0.95, power=0.8) == pytest.approx(
        pairs_needed(values, confidence=0.95, power=0.8), abs=3
    )


@pytest.mark.parametrize("rate", [0.02, 0.5])
def test_intervals_over_seeds_cover_also_where_most_pairs_tie(rate: float) -> None:
    rng = np.random.default_rng(8)
    num_trials, covered = 300, 0
    for _ in range(num_trials):
        before = rng.random((3, 64)) < rate
        changed = rng.random((3, 64)) < 0.02
        after = np.where(changed, rng.random((3, 64)) < rate, before)
        rows = (after.astype(float) - before).tolist()
        found = crossed_mean([by_task(row) for row in rows], confidence=0.95).interval
        covered += found.low <= 0.0 <= found.high
    assert covered / num_trials > 0.95 - 3 * math.sqrt(0.95 * 0.05 / num_trials)


@pytest.mark.parametrize("rate", RATES)
def test_levels_over_seeds_cover_also_near_their_ends(rate: float) -> None:
    rng = np.random.default_rng(9)
    num_trials, covered = 300, 0
    for _ in range(num_trials):
        rows = (rng.random((3, 64)) < rate).astype(float).tolist()
        found = crossed_level([by_task(row) for row in rows], confidence=0.95)
        covered += found.low <= rate <= found.high
    assert covered / num_trials > 0.95 - 3 * math.sqrt(0.95 * 0.05 / num_trials)
    assert crossed_level([by_task([0.0] * 64)] * 3, confidence=0.95).high > 0.02
