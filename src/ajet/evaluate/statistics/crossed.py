"""The mean over training seeds and tasks, both of them samples: its interval, p-value and number of tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import optimize, stats

from ajet.evaluate.statistics.intervals import FloatArray, Interval
from ajet.evaluate.statistics.pairs import NUM_ADDED, added_size, smallest_size, variance_quantiles


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossedMean:
    """The mean over training seeds and tasks, both of them samples."""

    interval: Interval
    p_value: float
    """Two-sided, of a mean of 0."""


def crossed_mean(by_seed: Sequence[Mapping[str, float]], *, confidence: float, scale: float = 1.0) -> CrossedMean:
    """The mean of values that every training seed has for the same tasks, and what it says of other seeds and tasks.

    Seeds and tasks are crossed random effects with one value a cell, told apart by the two-way analysis of variance.
    The parts of the mean's error, by seeds with the rest and by tasks without it, are each taken times Student's
    t of their own degrees of freedom and added in squares, as Howe (1974) does for sums of means. With two or three
    seeds the first part is large, for so few cannot tell how far seeds lie apart; where they happen to lie close
    together, the interval is still no narrower than that of the tasks' means over these seeds. Where most cells are
    alike, two more tasks are counted, as `difference_interval` counts two more pairs.

    A task counts as the same under every seed, although whoever is scripted in it may play otherwise under another:
    what is then not shared falls to the rest, and taking it for shared only widens the interval.

    Args:
        by_seed: value by task, a mapping a seed; tasks that not all of them have are left out.
        confidence: of the interval.
        scale: what a value can be where all are 0.

    Raises:
        ValueError: fewer than two seeds; of a single one `difference_interval` says all that there is.
    """
    cells = _cells(by_seed)
    num_tasks = cells.shape[1]
    mean = float(cells.mean()) if num_tasks else math.nan
    if num_tasks < 2:
        return CrossedMean(interval=Interval(mean=mean, low=-math.inf, high=math.inf, num=num_tasks), p_value=1.0)
    counted = _with_added(cells, scale=scale)
    center = float(counted.mean())
    squares = _mean_squares(counted)

    def half(p: float) -> float:
        return float(_half_width(p, cells.shape, counted.shape[1], *squares))

    if not cells.any():
        p_value = 1.0
    else:
        # The level at which the interval would end at 0, as far down as anyone could care.
        tiny = 1e-12
        p_value = tiny if half(tiny) < abs(center) else float(optimize.brentq(lambda p: half(p) - abs(center), tiny, 1))
    width = half(1 - confidence)
    low, high = min(center - width, mean), max(center + width, mean)
    return CrossedMean(interval=Interval(mean=mean, low=low, high=high, num=num_tasks), p_value=p_value)


def crossed_level(by_seed: Sequence[Mapping[str, float]], *, confidence: float) -> Interval:
    """`crossed_mean` of scores instead of differences: what is counted besides is one task at either end of them.

    Where all scores are the same, the ends are 0 and 1, or 0 and the score.
    """
    scores = [score for scores in by_seed for score in scores.values()] or [0.0]
    low, high = min(scores), max(scores)
    if low == high:
        low, high = min(low, 0.0), max(high, 1.0 if low >= 0 else 0.0)
    middle = (low + high) / 2
    centred = [{task: score - middle for task, score in scores.items()} for scores in by_seed]
    found = crossed_mean(centred, confidence=confidence, scale=(high - low) / 2).interval
    return replace(found, mean=found.mean + middle, low=found.low + middle, high=found.high + middle)


def _cells(by_seed: Sequence[Mapping[str, float]]) -> FloatArray:
    """Values [seeds, tasks] of the tasks that all seeds have."""
    if len(by_seed) < 2:
        raise ValueError("two training seeds at least, or nothing is known of their spread")
    tasks = [task for task in by_seed[0] if all(task in values for values in by_seed)]
    return np.array([[values[task] for task in tasks] for values in by_seed])


def _with_added(cells: FloatArray, *, scale: float) -> FloatArray:
    """The cells [seeds, tasks], with two more tasks where most are alike."""
    size = added_size(cells, scale=scale)
    if size is None:
        return cells
    column = np.full((len(cells), 1), size)
    return np.hstack([cells, column, -column])


def _mean_squares(cells: FloatArray) -> tuple[float, float, float]:
    """Of `cells` [seeds, tasks]: between seeds, between tasks, and of the rest."""
    num_seeds, num_tasks = cells.shape
    by_seed, by_task, mean = cells.mean(axis=1, keepdims=True), cells.mean(axis=0, keepdims=True), cells.mean()
    of_seeds = num_tasks * ((by_seed - mean) ** 2).sum() / (num_seeds - 1)
    of_tasks = num_seeds * ((by_task - mean) ** 2).sum() / (num_tasks - 1)
    rest = ((cells - by_seed - by_task + mean) ** 2).sum() / ((num_seeds - 1) * (num_tasks - 1))
    return float(of_seeds), float(of_tasks), float(rest)


def _half_width(
    p: float, shape: tuple[int, ...], num_counted: int, of_seeds: float | FloatArray, of_tasks: float, rest: float
) -> FloatArray:
    """Half of the interval that leaves out `p`, from mean squares over `num_counted` tasks.

    Args:
        p: what the interval leaves out.
        shape: (seeds, tasks) that were seen; degrees of freedom are theirs.
        num_counted: tasks, with those that are counted besides.
        of_seeds: mean square between seeds; several give an interval each.
        of_tasks: between tasks.
        rest: of the rest.
    """
    num_seeds, num_tasks = shape
    t_seeds, t_tasks = stats.t.isf(p / 2, [num_seeds - 1, num_tasks - 1])
    crossed = t_seeds**2 * of_seeds + t_tasks**2 * max(of_tasks - rest, 0.0)
    result: FloatArray = np.sqrt(np.maximum(crossed, t_tasks**2 * of_tasks) / (num_seeds * num_counted))
    return result


def tasks_needed(by_seed: Sequence[Mapping[str, float]], *, confidence: float, power: float) -> int | None:
    """As `pairs_needed`, for the test of `crossed_mean` with as many training seeds as there are.

    Returns:
        None also where so few seeds lie so far apart that more tasks alone would not do.
    """
    cells = _cells(by_seed)
    num_seeds, num_tasks = cells.shape
    if num_tasks < 2 or cells.mean() == 0:
        return None
    size = added_size(cells, scale=1.0)
    mean = abs(float(cells.mean()))
    of_seeds, seen_of_tasks, rest = _mean_squares(cells)
    of_tasks = max(seen_of_tasks, rest)
    variance = max(of_seeds - rest, 0.0) / num_tasks  # of a seed's mean over endlessly many tasks
    quantiles = variance_quantiles(num_seeds - 1)

    def found(num: int) -> float:
        counted = num if size is None else num + NUM_ADDED
        share = num / counted
        between = num * variance + rest
        squares = of_tasks
        if size is not None:
            added = num_seeds * (NUM_ADDED * size**2 + num * mean**2 * (1 - share))
            squares = ((num - 1) * of_tasks + added) / (counted - 1)
        half = _half_width(1 - confidence, (num_seeds, num), counted, quantiles * between * share, squares, rest)
        error = math.sqrt((between + of_tasks - rest) / (num_seeds * num))
        return float(stats.norm.sf(half / share, mean, max(error, 1e-12 * mean)).mean())

    return smallest_size(found, power=power)
