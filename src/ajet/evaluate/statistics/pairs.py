"""Differences of the same tasks: intervals, p-values and numbers of pairs that agree with each other.

Differences that are spread out have Student's interval. Where most pairs are alike, or a pair can only win, lose or
tie, the few others decide everything and Student's interval is far too narrow, at worst of no width: two lucky tasks
are not seen yet. There two more pairs are counted, one that gained and one that lost as much as a pair can, as Bonett
and Price (2012) do for paired proportions; Student's degrees of freedom stay those of the pairs there are. An interval
leaves out 0 exactly where the p-value is below the level.

Coverage was computed for 16, 64 and 300 pairs at rates of .02, .5 and .98, from independent to nearly identical pairs
(`tests/unit/test_pairs.py`). Not covered: differences that are all small and different but for a few large ones.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean

import numpy as np
from scipy import stats

from ajet.evaluate.statistics.intervals import FloatArray, Interval

POWER = 0.8
"""The usual probability of finding a difference that is there, for `pairs_needed`."""
MOST_TASKS = 1_000_000
"""More than anyone plays, and as good as endlessly many."""
NUM_ADDED = 2
"""Pairs that are counted besides where most are alike."""


def paired_values(before: Mapping[str, float], after: Mapping[str, float]) -> list[float]:
    """`after - before` of the tasks that both have, in the order of `before`."""
    return [after[task] - before[task] for task in before if task in after]


def score_scale(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """How much a pair can be thought to differ where none does: the range of all scores, or their size, or 1.

    Example: 0 and 1 in both, all alike: 1. Everything lost at a reward of -1, before and after: 1.
    """
    scores = [*before.values(), *after.values()]
    if not scores:
        return 1.0
    return (max(scores) - min(scores)) or abs(scores[0]) or 1.0


def added_size(values: FloatArray, *, scale: float) -> float | None:
    """The size of the two pairs that are counted besides; None where differences are spread out enough without.

    Args:
        values: differences, of any shape.
        scale: what a pair can differ by where none does.
    """
    largest = float(np.abs(values).max())
    most_alike = Counter(np.round(values.ravel(), 12).tolist()).most_common(1)[0][1]
    if _won_or_lost(values) or 2 * most_alike > values.size:
        return largest or scale
    return None


def _won_or_lost(values: FloatArray) -> bool:
    """Whether each difference is one size up, the same down, or none."""
    sizes = np.abs(values)
    return bool(np.all((sizes == 0) | (sizes == sizes.max())))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Estimate:
    center: float
    """Of the interval."""
    error: float
    """Standard error."""
    freedom: int
    bound: float
    """No difference can be larger than this."""


def _estimate(values: Sequence[float], *, scale: float) -> _Estimate:
    pairs = np.asarray(values, float)
    size = added_size(pairs, scale=scale)
    counted = pairs if size is None else np.append(pairs, (size, -size))
    return _Estimate(
        center=float(counted.mean()),
        error=float(counted.std(ddof=1)) / math.sqrt(len(counted)),
        freedom=len(pairs) - 1,
        bound=size if size is not None and _won_or_lost(pairs) else math.inf,
    )


def difference_interval(values: Sequence[float], *, confidence: float, scale: float = 1.0) -> Interval:
    """The mean of differences with its interval; of fewer than two the interval is the whole line.

    Args:
        values: one a pair.
        confidence: of the interval.
        scale: what a pair can differ by where none does.
    """
    mean = fmean(values) if values else math.nan
    if len(values) < 2:
        return Interval(mean=mean, low=-math.inf, high=math.inf, num=len(values))
    found = _estimate(values, scale=scale)
    half = float(stats.t.ppf((1 + confidence) / 2, found.freedom)) * found.error
    # The center lies nearer to 0 than the mean, which belongs to the interval at any confidence.
    low, high = min(found.center - half, mean), max(found.center + half, mean)
    return Interval(mean=mean, low=max(low, -found.bound), high=min(high, found.bound), num=len(values))


def paired_difference(before: Mapping[str, float], after: Mapping[str, float], *, confidence: float) -> Interval:
    """`after - before` over the tasks that both have: the same seeds, so what the seed decides cancels out."""
    scale = score_scale(before, after)
    return difference_interval(paired_values(before, after), confidence=confidence, scale=scale)


def paired_p_value(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """Two-sided p-value of no difference, below 1 - confidence exactly where `paired_difference` leaves out 0.

    1 where no pair differs or fewer than two pairs exist.
    """
    values = paired_values(before, after)
    if len(values) < 2 or not any(values):
        return 1.0
    found = _estimate(values, scale=1.0)
    return 2 * float(stats.t.sf(abs(found.center) / found.error, found.freedom))


def pairs_needed(values: Sequence[float], *, confidence: float, power: float) -> int | None:
    """Pairs at which `paired_p_value` would find the mean difference seen, with this probability.

    It takes the difference and its spread as seen for the true ones, so it is as noisy as they are.

    Args:
        values: differences, one a pair.
        confidence: 1 - the test's level.
        power: the probability of finding it.

    Returns:
        None where the mean difference is 0, the values are fewer than two, or `MOST_TASKS` would not do.
    """
    if len(values) < 2 or fmean(values) == 0:
        return None
    pairs = np.asarray(values, float)
    mean, variance = abs(float(pairs.mean())), float(pairs.var(ddof=1))
    size = added_size(pairs, scale=1.0)

    def found(num: int) -> float:
        seen = variance * variance_quantiles(num - 1)
        threshold = float(stats.t.ppf((1 + confidence) / 2, num - 1)) * _standard_error_at(num, mean, seen, size)
        # What is counted besides pulls the center towards 0.
        needed = threshold if size is None else threshold * (num + NUM_ADDED) / num
        return float(stats.norm.sf(needed, mean, max(math.sqrt(variance / num), 1e-12 * mean)).mean())

    return smallest_size(found, power=power)


def _standard_error_at(num: int, mean: float, seen: FloatArray, size: float | None) -> FloatArray:
    """The standard error that `num` pairs with this mean and these variances have."""
    if size is None:
        return np.sqrt(seen / num)
    counted = num + NUM_ADDED
    squares = (num - 1) * seen + num * mean**2 + NUM_ADDED * size**2 - (num * mean) ** 2 / counted
    return np.sqrt(squares / (counted - 1) / counted)


@lru_cache(maxsize=4096)  # 8 kB each, and a millisecond: every search for a size asks for the same ones
def variance_quantiles(freedom: int) -> FloatArray:
    """What a variance is found to be, as a share of what it is: cases of the same probability. Not to be written to."""
    result: FloatArray = stats.chi2.ppf((np.arange(1000) + 0.5) / 1000, freedom) / freedom
    result.flags.writeable = False
    return result


def smallest_size(found: Callable[[int], float], *, power: float) -> int | None:
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
