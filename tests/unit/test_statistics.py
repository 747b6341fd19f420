"""Statistics against textbook numbers, by hand-checked examples and by simulation."""

from __future__ import annotations

import math
from itertools import combinations
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ajet.evaluate.statistics import (
    Interval,
    best_at_k,
    crossed_mean,
    estimate_text,
    holm,
    interval_text,
    mean_interval,
    p_value_text,
    paired_difference,
    paired_p_value,
    pairs_needed,
    pass_at_k,
    ratio_interval,
    score_interval,
    share_interval,
    tasks_needed,
)

# Student's own example (1908, after Cushny and Peebles): extra hours of sleep of ten patients with two drugs.
SLEEP_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SLEEP_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def by_task(values: list[float]) -> dict[str, float]:
    return {str(i): value for i, value in enumerate(values)}


def test_the_paired_interval_and_p_value_are_those_of_students_sleep_data() -> None:
    found = paired_difference(by_task(SLEEP_1), by_task(SLEEP_2), confidence=0.95)
    assert (found.mean, found.low, found.high, found.num) == pytest.approx((1.58, 0.7001, 2.4599, 10), abs=1e-4)
    assert paired_p_value(by_task(SLEEP_1), by_task(SLEEP_2)) == pytest.approx(0.002833, abs=1e-6)


def test_only_tasks_that_both_have_are_compared() -> None:
    found = paired_difference({"a": 0.0, "b": 1.0, "c": 0.0}, {"b": 0.0, "c": 1.0, "d": 1.0}, confidence=0.95)
    assert (found.mean, found.num) == (0.0, 2)


def test_one_value_says_nothing_about_the_spread() -> None:
    found = mean_interval([0.5], confidence=0.95)
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert paired_p_value({"a": 0.0}, {"a": 1.0}) == 1.0


def test_a_share_has_wilsons_interval() -> None:
    # By hand with z = 1.959964 and n = 10: no success, high = z^2 / (n + z^2) = 3.841459 / 13.841459.
    none = share_interval(0, 10, confidence=0.95)
    assert (none.mean, none.low, none.high, none.num) == pytest.approx((0.0, 0.0, 0.277533, 10), abs=1e-6)
    # Newcombe (1998), table I: 81 of 263.
    some = share_interval(81, 263, confidence=0.95)
    assert (some.low, some.high) == pytest.approx((0.2553, 0.3662), abs=1e-4)


def test_values_of_two_kinds_are_a_share_and_so_are_parts_of_one_that_mostly_agree() -> None:
    assert score_interval([0.0, 1.0], confidence=0.9) == share_interval(1, 2, confidence=0.9)
    # Won and lost at 1 and -1: a share of 1/4, doubled and moved down by 1.
    share, found = share_interval(1, 4, confidence=0.9), score_interval([1.0, -1.0, -1.0, -1.0], confidence=0.9)
    assert (found.mean, found.low, found.high) == pytest.approx((-0.5, 2 * share.low - 1, 2 * share.high - 1))
    # Half a success in ten tasks: between none and one, and wider than Student's, which is 0.05 +- 0.113.
    rare = score_interval([0.5] + [0.0] * 9, confidence=0.95)
    assert rare.low > 0 and share_interval(0, 10, confidence=0.95).high < rare.high < 0.405
    spread = [0.1, 0.5, 0.9, 0.3]
    assert score_interval(spread, confidence=0.9) == mean_interval(spread, confidence=0.9)


def test_nominal_95_percent_intervals_cover_95_percent_of_the_time() -> None:
    rng = np.random.default_rng(0)
    num_trials, covered = 4000, 0
    for _ in range(num_trials):
        # Won or lost before and after, correlated through the seed's luck, as games are.
        luck = rng.random(200)
        before = (luck + rng.random(200) < 0.7).astype(float)
        after = (luck + rng.random(200) < 1.0).astype(float)
        found = paired_difference(by_task(before.tolist()), by_task(after.tolist()), confidence=0.95)
        covered += found.low <= 0.5 - 0.245 <= found.high  # P(u + v < 1) = 1/2, P(u + v < .7) = .7**2 / 2
    error = math.sqrt(0.95 * 0.05 / num_trials)
    assert abs(covered / num_trials - 0.95) < 4 * error


def test_episodes_of_one_task_are_one_value_and_counting_them_singly_would_cover_too_seldom() -> None:
    rng = np.random.default_rng(2)
    num_trials, by_tasks, by_episodes = 2000, 0, 0
    for _ in range(num_trials):
        # 30 tasks of 8 episodes; the task's difficulty is shared by its episodes.
        episodes = rng.normal(size=(30, 1)) + rng.normal(size=(30, 8))
        found = mean_interval(episodes.mean(axis=1).tolist(), confidence=0.95)
        naive = mean_interval(episodes.ravel().tolist(), confidence=0.95)
        by_tasks += found.low <= 0.0 <= found.high
        by_episodes += naive.low <= 0.0 <= naive.high
    assert abs(by_tasks / num_trials - 0.95) < 4 * math.sqrt(0.95 * 0.05 / num_trials)
    assert by_episodes / num_trials < 0.8


def test_pairs_needed_find_the_difference_as_often_as_they_say() -> None:
    rng = np.random.default_rng(4)
    needed = pairs_needed([0.4 + math.sqrt(1 / 2), 0.4 - math.sqrt(1 / 2)], confidence=0.95, power=0.8)
    assert needed is not None
    num_trials, found = 1500, 0
    for _ in range(num_trials):
        values = rng.normal(0.4, 1.0, needed)
        found += paired_p_value(by_task([0.0] * needed), by_task(values.tolist())) < 0.05
    assert abs(found / num_trials - 0.8) < 4 * math.sqrt(0.8 * 0.2 / num_trials)


def test_the_mean_over_seeds_and_tasks_is_the_two_way_analysis_of_variance() -> None:
    # Two seeds by three tasks, mean 3: MS_seeds 6, MS_tasks 8, MS_rest 0. Errors of the mean: 1 and sqrt(4/3).
    found = crossed_mean([by_task([0.0, 2.0, 4.0]), by_task([2.0, 4.0, 6.0])], confidence=0.95)
    half = math.sqrt(12.706205**2 + 4.302653**2 * 4 / 3)  # t(0.975, 1) and t(0.975, 2)
    assert (found.interval.low, found.interval.high) == pytest.approx((3 - half, 3 + half), abs=1e-4)
    same = crossed_mean([by_task([0.0, 2.0, 4.0]), by_task([2.0, 4.0, 6.0])], confidence=1 - found.p_value)
    assert same.interval.low == pytest.approx(0.0, abs=1e-6)


def test_seeds_that_happen_to_agree_make_no_narrower_interval_than_their_tasks_do() -> None:
    one, other = [1.0, 0.2, 0.0, 0.9, 0.6, 0.3], [0.1, 0.8, 0.4, 0.7, 0.0, 1.0]  # both seeds have mean 1/2
    found = crossed_mean([by_task(one), by_task(other)], confidence=0.95).interval
    means = [(a + b) / 2 for a, b in zip(one, other, strict=True)]
    expected = mean_interval(means, confidence=0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_tasks_that_a_seed_lacks_are_left_out_of_the_mean_over_seeds() -> None:
    found = crossed_mean([{"a": 1.0, "b": 1.0, "c": 9.0}, {"b": 1.0, "a": 1.0}], confidence=0.95)
    assert (found.interval.mean, found.interval.num) == (1.0, 2)
    assert found.p_value == pytest.approx(2 / 2**2)
    assert crossed_mean([by_task([0.0] * 9)] * 2, confidence=0.95).p_value == 1.0
    alone = crossed_mean([{"a": 1.0}, {"a": 1.0}], confidence=0.95)
    assert (alone.interval.low, alone.p_value) == (-math.inf, 1.0)
    with pytest.raises(ValueError, match="two training seeds"):
        crossed_mean([{"a": 1.0}], confidence=0.95)


@pytest.mark.parametrize(("num_seeds", "of_seeds"), [(3, 0.0), (3, 0.2), (5, 0.1)])
def test_intervals_over_seeds_and_tasks_cover_at_least_as_often_as_they_say(num_seeds: int, of_seeds: float) -> None:
    rng = np.random.default_rng(5)
    num_trials, covered = 1000, 0
    for _ in range(num_trials):
        cells = rng.normal(0, of_seeds, (num_seeds, 1)) + rng.normal(0, 0.3, 60) + rng.normal(0, 0.7, (num_seeds, 60))
        found = crossed_mean([by_task(row) for row in cells.tolist()], confidence=0.95).interval
        covered += found.low <= 0.0 <= found.high
    assert covered / num_trials > 0.95 - 4 * math.sqrt(0.95 * 0.05 / num_trials)


def test_intervals_are_exact_where_seeds_lie_far_apart() -> None:
    rng = np.random.default_rng(6)
    num_trials, covered = 1500, 0
    for _ in range(num_trials):
        cells = rng.normal(0, 1.0, (3, 1)) + rng.normal(0, 0.1, 20) + rng.normal(0, 0.1, (3, 20))
        found = crossed_mean([by_task(row) for row in cells.tolist()], confidence=0.95).interval
        covered += found.low <= 0.0 <= found.high
    assert abs(covered / num_trials - 0.95) < 4 * math.sqrt(0.95 * 0.05 / num_trials)


def crossed(mean: float, of_seeds: float, of_tasks: float, rest: float) -> list[list[float]]:
    """Four seeds by four tasks whose deviations, of these sizes, sum to 0 over each of seeds, tasks and both."""
    signs = (1, -1, 1, -1)
    return [[mean + of_seeds * seed + of_tasks * task + rest * seed * task for task in signs] for seed in signs]


def test_tasks_needed_with_several_seeds_find_the_difference_as_often_as_they_say() -> None:
    # Mean squares are 16/3 of_seeds^2, 16/3 of_tasks^2, 16/9 rest^2; variances by hand: seeds (.128 - .12) / 4 = .002,
    # tasks (.48 - .12) / 4 = .09, rest .12.
    sizes = [math.sqrt(value) for value in (0.128 * 3 / 16, 0.48 * 3 / 16, 0.12 * 9 / 16)]
    needed = tasks_needed([by_task(row) for row in crossed(0.16, *sizes)], confidence=0.95, power=0.8)
    assert needed is not None
    rng = np.random.default_rng(7)
    num_trials, found = 800, 0
    for _ in range(num_trials):
        seeds, tasks = rng.normal(0, math.sqrt(0.002), (4, 1)), rng.normal(0, 0.3, needed)
        cells = 0.16 + seeds + tasks + rng.normal(0, math.sqrt(0.12), (4, needed))
        found += crossed_mean([by_task(row) for row in cells.tolist()], confidence=0.95).interval.low > 0
    assert abs(found / num_trials - 0.8) < 4 * math.sqrt(0.8 * 0.2 / num_trials)


def test_no_number_of_tasks_makes_up_for_seeds_that_lie_too_far_apart() -> None:
    far = [by_task(row) for row in crossed(0.2, 0.2, 0.1, 0.1)]
    assert tasks_needed(far, confidence=0.95, power=0.8) is None
    assert tasks_needed([by_task([0.0] * 4)] * 2, confidence=0.95, power=0.8) is None
    assert tasks_needed([by_task([1.0] * 4)] * 2, confidence=0.95, power=0.8) == 6


def test_the_bootstrap_of_a_ratio_covers_it_nearly_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    num_trials, covered = 300, 0
    for _ in range(num_trials):
        tokens = rng.gamma(4.0, 25.0, 60)
        rewards = tokens * 0.01 + rng.normal(0.0, 0.3, 60)
        found = ratio_interval(rewards.tolist(), tokens.tolist(), confidence=0.9, rng=rng)
        covered += found.low <= 0.01 <= found.high
    assert 0.84 < covered / num_trials < 0.95


def test_a_ratio_needs_numbers_of_the_same_tasks() -> None:
    with pytest.raises(ValueError, match="the same tasks"):
        ratio_interval([1.0, 2.0], [1.0], confidence=0.9, rng=np.random.default_rng(0))


def test_pairs_needed_is_the_textbook_number() -> None:
    # Effect 0.5, level 5%, power 80%: 34 pairs in every table of Cohen's.
    values = [0.5 + math.sqrt(1 / 2), 0.5 - math.sqrt(1 / 2)]  # mean .5, standard deviation 1
    assert pairs_needed(values, confidence=0.95, power=0.8) == 34
    assert pairs_needed([0.0, 0.0], confidence=0.95, power=0.8) is None
    assert pairs_needed([1.0, 1.0], confidence=0.95, power=0.8) == 6  # 2 / 2**6 is the first below 5%


def test_holm_steps_down() -> None:
    # Sorted .005 .01 .03 .04 times 4 3 2 1, made monotone: .02 .03 .06 .06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=7), st.data())
def test_best_at_k_is_the_mean_over_all_subsets(values: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(values)))
    expected = fmean(max(subset) for subset in combinations(values, k))
    assert best_at_k(values, k) == pytest.approx(expected, abs=1e-9)


@given(st.integers(1, 8), st.data())
def test_pass_at_k_is_best_at_k_of_ones_and_zeros(num: int, data: st.DataObject) -> None:
    successes, k = data.draw(st.integers(0, num)), data.draw(st.integers(1, num))
    values = [1.0] * successes + [0.0] * (num - successes)
    assert pass_at_k(num, successes, k) == pytest.approx(best_at_k(values, k))


@pytest.mark.parametrize(("num", "successes", "k"), [(3, 1, 4), (3, 1, 0), (3, 4, 1)])
def test_impossible_counts_are_refused(num: int, successes: int, k: int) -> None:
    with pytest.raises(ValueError):
        pass_at_k(num, successes, k)


def test_an_estimate_is_written_alike_everywhere() -> None:
    found = Interval(mean=0.25, low=-0.0625, high=0.5, num=4)
    assert estimate_text(found, signed=True) == "+0.250 [-0.062, +0.500]" and p_value_text(0.0004) == "<0.001"
    # One value, equal values, and both as JSON has them say nothing about the spread.
    for low, high in ((-math.inf, math.inf), (0.5, 0.5), (None, None)):
        assert interval_text(low, high) == "[unknown]"
