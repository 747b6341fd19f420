"""Intervals and tests for scores by task: how large a difference is, and whether it is noise.

In: plain numbers, one a task. Out: intervals, corrected p-values, numbers of tasks. Tasks are the independent units:
several episodes of a task are averaged first, so intervals are clustered by task. The estimators are scipy's and
statsmodels'. Left out: where the numbers come from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

POWER = 0.8
"""The usual probability of finding a difference that is there, for `pairs_needed`."""
MOST_TASKS = 1_000_000
"""More than anyone plays, and as good as endlessly many."""
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate with its confidence interval."""

    mean: float
    low: float
    high: float
    num: int
    """Tasks (or pairs of tasks) it rests on."""


def mean_interval(values: Sequence[float], *, confidence: float) -> Interval:
    """Student's t interval of the mean of independent values.

    With fewer than two values the interval is the whole line; values that do not vary give one of no width, which
    says nothing about the next value (`share_interval` does, for successes).
    """
    if len(values) < 2:
        mean = fmean(values) if values else math.nan
        return Interval(mean=mean, low=-math.inf, high=math.inf, num=len(values))
    mean = fmean(values)
    half = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return Interval(mean=mean, low=mean - half, high=mean + half, num=len(values))


def share_interval(num_successes: int, num: int, *, confidence: float) -> Interval:
    """Wilson's score interval (1927) of a share; unlike Student's it has a width at 0 and 1, and stays between them.

    Example: no success in 10 tries at 95%: 0 to 0.278.

    Raises:
        ValueError: no tries, or more successes than tries.
    """
    found = stats.binomtest(num_successes, num).proportion_ci(confidence_level=confidence, method="wilson")
    return Interval(mean=num_successes / num, low=float(found.low), high=float(found.high), num=num)


def score_interval(values: Sequence[float], *, confidence: float) -> Interval:
    """`share_interval` of ones and zeros, `mean_interval` of anything else."""
    if values and set(values) <= {0.0, 1.0}:
        return share_interval(int(sum(values)), len(values), confidence=confidence)
    return mean_interval(values, confidence=confidence)


def paired_values(before: Mapping[str, float], after: Mapping[str, float]) -> list[float]:
    """`after - before` of the tasks that both have, in the order of `before`."""
    return [after[task] - before[task] for task in before if task in after]


def paired_difference(before: Mapping[str, float], after: Mapping[str, float], *, confidence: float) -> Interval:
    """`after - before` over the tasks that both have: the same seeds, so what the seed decides cancels out."""
    return mean_interval(paired_values(before, after), confidence=confidence)


def paired_p_value(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """Two-sided p-value of Student's paired t test; 1 where no pair differs or fewer than two pairs exist.

    Where all n pairs differ by the same amount, Student's would be 0 whatever n is; the exact sign-flip test's
    2 / 2^n stands there instead.
    """
    values = paired_values(before, after)
    if len(values) < 2:
        return 1.0
    if len(set(values)) == 1:
        return _p_value_without_spread(values[0], len(values))
    return float(stats.ttest_1samp(values, 0.0).pvalue)


def _p_value_without_spread(value: float, num: int) -> float:
    """The exact sign-flip test of `num` equal values: both ways in which all signs agree, of 2^num."""
    return 1.0 if value == 0 else 2.0 ** (1 - num)


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossedMean:
    """The mean over training seeds and tasks, both of them samples."""

    interval: Interval
    p_value: float
    """Two-sided, of a mean of 0."""


def crossed_mean(by_seed: Sequence[Mapping[str, float]], *, confidence: float) -> CrossedMean:
    """The mean of values that every training seed has for the same tasks, and what it says of other seeds and tasks.

    Seeds and tasks are crossed random effects with one value a cell, told apart by the two-way analysis of variance.
    The parts of the mean's error, by seeds with the rest and by tasks without it, are each taken times Student's
    t of their own degrees of freedom and added in squares, as Howe (1974) does for sums of means. With two or three
    seeds the first part is large, for so few cannot tell how far seeds lie apart; where they happen to lie close
    together, the interval is still no narrower than that of the tasks' means over these seeds.

    A task counts as the same under every seed, although whoever is scripted in it may play otherwise under another:
    what is then not shared falls to the rest, and taking it for shared only widens the interval.

    Args:
        by_seed: value by task, a mapping a seed; tasks that not all of them have are left out.
        confidence: of the interval.

    Raises:
        ValueError: fewer than two seeds; of a single one `mean_interval` says all that there is.
    """
    cells = _cells(by_seed)
    num_tasks = cells.shape[1]
    mean = float(cells.mean()) if num_tasks else math.nan
    if num_tasks < 2:
        return CrossedMean(interval=Interval(mean=mean, low=-math.inf, high=math.inf, num=num_tasks), p_value=1.0)
    squares = _mean_squares(cells)

    def half(p: float) -> float:
        return float(_half_width(p, cells.shape, *squares))

    width = half(1 - confidence)
    if width == 0:
        p_value = _p_value_without_spread(mean, num_tasks)
    else:
        # The level at which the interval would end at 0, as far down as anyone could care.
        tiny = 1e-12
        p_value = tiny if half(tiny) < abs(mean) else float(optimize.brentq(lambda p: half(p) - abs(mean), tiny, 1))
    return CrossedMean(
        interval=Interval(mean=mean, low=mean - width, high=mean + width, num=num_tasks), p_value=p_value
    )


def _cells(by_seed: Sequence[Mapping[str, float]]) -> FloatArray:
    """Values [seeds, tasks] of the tasks that all seeds have."""
    if len(by_seed) < 2:
        raise ValueError("two training seeds at least, or nothing is known of their spread")
    tasks = [task for task in by_seed[0] if all(task in values for values in by_seed)]
    return np.array([[values[task] for task in tasks] for values in by_seed])


def _mean_squares(cells: FloatArray) -> tuple[float, float, float]:
    """Of `cells` [seeds, tasks]: between seeds, between tasks, and of the rest."""
    num_seeds, num_tasks = cells.shape
    by_seed, by_task, mean = cells.mean(axis=1, keepdims=True), cells.mean(axis=0, keepdims=True), cells.mean()
    of_seeds = num_tasks * ((by_seed - mean) ** 2).sum() / (num_seeds - 1)
    of_tasks = num_seeds * ((by_task - mean) ** 2).sum() / (num_tasks - 1)
    rest = ((cells - by_seed - by_task + mean) ** 2).sum() / ((num_seeds - 1) * (num_tasks - 1))
    return float(of_seeds), float(of_tasks), float(rest)


def _half_width(
    p: float, shape: tuple[int, ...], of_seeds: float | FloatArray, of_tasks: float, rest: float
) -> FloatArray:
    """Half of the interval that leaves out `p`, from mean squares over `shape` (seeds, tasks)."""
    num_seeds, num_tasks = shape
    t_seeds, t_tasks = stats.t.isf(p / 2, [num_seeds - 1, num_tasks - 1])
    crossed = t_seeds**2 * of_seeds + t_tasks**2 * max(of_tasks - rest, 0.0)
    result: FloatArray = np.sqrt(np.maximum(crossed, t_tasks**2 * of_tasks) / (num_seeds * num_tasks))
    return result


def ratio_interval(
    numerator: Sequence[float], denominator: Sequence[float], *, confidence: float, rng: np.random.Generator
) -> Interval:
    """Ratio of two means over the same tasks, e.g. reward per token, with a BCa bootstrap over tasks.

    Args:
        numerator: one value a task.
        denominator: of the same tasks; their mean must not be 0.
        confidence: of the interval.
        rng: where resamples are drawn from.

    Raises:
        ValueError: different lengths, or fewer than two tasks.
    """
    if len(numerator) != len(denominator) or len(numerator) < 2:
        raise ValueError("a ratio needs numerator and denominator of the same tasks, two of them at least")

    def ratio(a: FloatArray, b: FloatArray, axis: int = -1) -> FloatArray:
        result: FloatArray = a.mean(axis=axis) / b.mean(axis=axis)
        return result

    found = stats.bootstrap(
        (np.asarray(numerator, float), np.asarray(denominator, float)),
        ratio,
        paired=True,
        vectorized=True,
        confidence_level=confidence,
        rng=rng,
    ).confidence_interval
    mean = fmean(numerator) / fmean(denominator)
    return Interval(mean=mean, low=float(found.low), high=float(found.high), num=len(numerator))


def pairs_needed(values: Sequence[float], *, confidence: float, power: float) -> int | None:
    """Pairs at which a paired t test would find the mean difference seen, with this probability.

    It takes the difference and its spread as seen for the true ones, so it is as noisy as they are.

    Args:
        values: differences, one a pair.
        confidence: 1 - the test's level.
        power: the probability of finding it.

    Returns:
        None where the mean difference is 0, the values are fewer than two, or `MOST_TASKS` would not do; where they do
        not vary, as many as `paired_p_value` takes for significant then.
    """
    if len(values) < 2 or fmean(values) == 0:
        return None
    spread = stdev(values)
    if spread == 0:
        return _pairs_without_spread(confidence)
    mean = abs(fmean(values))

    def found(num: int) -> float:
        error = spread / math.sqrt(num)
        half = float(stats.t.ppf((1 + confidence) / 2, num - 1)) * error * np.sqrt(_luck(num - 1))
        return float(stats.norm.sf(half, mean, error).mean())

    return _fewest(found, power=power)


def _pairs_without_spread(confidence: float) -> int:
    """The fewest equal values whose `_p_value_without_spread` is below the level."""
    return math.floor(2 - math.log2(1 - confidence))


def _luck(freedom: int) -> FloatArray:
    """What a variance is found to be, as a share of what it is: cases of the same probability."""
    result: FloatArray = stats.chi2.ppf((np.arange(1000) + 0.5) / 1000, freedom) / freedom
    return result


def _fewest(found: Callable[[int], float], *, power: float) -> int | None:
    """The smallest number, 2 at least, at which `found` reaches `power`; None where `MOST_TASKS` does not do."""
    few, many = 1, 2
    while found(many) < power:
        few, many = many, 2 * many
        if many > MOST_TASKS:
            return None
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if found(middle) >= power else (middle, many)
    return many


def tasks_needed(by_seed: Sequence[Mapping[str, float]], *, confidence: float, power: float) -> int | None:
    """As `pairs_needed`, for the test of `crossed_mean` with as many training seeds as there are.

    Returns:
        None also where so few seeds lie so far apart that more tasks alone would not do.
    """
    cells = _cells(by_seed)
    num_seeds, num_tasks = cells.shape
    if num_tasks < 2 or cells.mean() == 0:
        return None
    of_seeds, of_tasks, rest = _mean_squares(cells)
    if of_seeds == of_tasks == 0:
        return _pairs_without_spread(confidence)
    mean, of_tasks = abs(float(cells.mean())), max(of_tasks, rest)
    variance = max(of_seeds - rest, 0.0) / num_tasks  # of a seed's mean over endlessly many tasks
    luck = _luck(num_seeds - 1)

    def found(num: int) -> float:
        between = num * variance + rest
        half = _half_width(1 - confidence, (num_seeds, num), luck * between, of_tasks, rest)
        error = math.sqrt((between + of_tasks - rest) / (num_seeds * num))
        return float(stats.norm.sf(half, mean, error).mean())

    return _fewest(found, power=power)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction (1979): p-values that may be compared with the level as if there had been one test."""
    if not p_values:
        return []
    from statsmodels.stats.multitest import multipletests  # takes a second to import

    return [float(value) for value in multipletests(list(p_values), method="holm")[1]]


def pass_at_k(num: int, num_successes: int, k: int) -> float:
    """Unbiased estimate of P(at least one of k tries succeeds) from n tries (Chen et al. 2021): 1 - C(n-c,k)/C(n,k).

    Raises:
        ValueError: k is not between 1 and n, or more successes than tries.
    """
    if not 1 <= k <= num or not 0 <= num_successes <= num:
        raise ValueError(f"pass@{k} needs at least {k} tries and at most {num} successes of {num}")
    return 1 - math.comb(num - num_successes, k) / math.comb(num, k)


def best_at_k(values: Sequence[float], k: int) -> float:
    """Unbiased estimate of the expected best of k tries from n values: the mean of the best over all k-subsets.

    Example: values 0, 0, 1 and k = 2: two of the three pairs hold the 1, so 2/3.

    Raises:
        ValueError: k is not between 1 and n.
    """
    if not 1 <= k <= len(values):
        raise ValueError(f"best@{k} needs between 1 and {len(values)} tries")
    total = math.comb(len(values), k)
    return sum(value * math.comb(i, k - 1) / total for i, value in enumerate(sorted(values)))
