"""Intervals of means, shares and ratios of independent values."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
import numpy.typing as npt
from scipy import stats

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
    """The interval of a mean of scores: Wilson's where they are shares, Student's for anything else.

    Shares are ones and zeros, any other two values (won and lost at 1 and -1), and values between 0 and 1 most of which
    are the same, e.g. of tasks that were played four times and hardly ever won; these vary no more than ones and zeros
    of that mean do.
    """
    if values and set(values) <= {0.0, 1.0}:
        return share_interval(int(sum(values)), len(values), confidence=confidence)
    found = sorted(set(values))
    if not found or (len(found) == 1 and not 0 <= found[0] <= 1):
        return mean_interval(values, confidence=confidence)
    most_alike = max(Counter(values).values())
    if found[0] >= 0 and found[-1] <= 1 and 2 * most_alike > len(values):
        low, high = 0.0, 1.0
    elif len(found) == 2:
        low, high = found
    else:
        return mean_interval(values, confidence=confidence)
    share = _wilson((fmean(values) - low) / (high - low), len(values), confidence=confidence)
    return Interval(
        mean=fmean(values), low=low + (high - low) * share[0], high=low + (high - low) * share[1], num=len(values)
    )


def _wilson(share: float, num: int, *, confidence: float) -> tuple[float, float]:
    """As `share_interval`, also of parts of a success, which scipy's does not take."""
    z = float(stats.norm.ppf((1 + confidence) / 2))
    center = (share + z * z / (2 * num)) / (1 + z * z / num)
    half = z / (1 + z * z / num) * math.sqrt(share * (1 - share) / num + z * z / (4 * num * num))
    return max(0.0, center - half), min(1.0, center + half)


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
