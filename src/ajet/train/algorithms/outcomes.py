"""What an advantage is told: the rewards that share a baseline, and the calls that earned them. Pure numpy.

What is compared are totals: T = R - penalty, an agent's reward less what its malformed and overlong replies cost.
Agents of one tag may differ in both. Every episode counts once, as in the loss: with m agents of the tag in an episode
each has the weight 1 / m of it, so

    baseline = mean over episodes of the mean over the tag's agents of T
    spread^2 = the same mean of (T - baseline)^2, times G / (G - 1) for G episodes

Where a credit rule pools several tags, (episode, tag) stands for the episode above (`Pool.counts_once`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ajet.records import Call

FloatArray = npt.NDArray[np.float64]
STD_EPSILON = 1e-4
"""What is added to a deviation before it divides, as in TRL."""
_SAME = 1e-12
"""Numbers closer than this, or than this share of the largest, are the same but for rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """What A agents got in the episodes that share a baseline, at least two; their totals are not all the same.

    A *cell* is what counts once: with most credit rules an episode's agents of one tag. There are C of them.
    Example: a tag with one agent that got 0, 0 and 1: rewards (0, 0, 1), cells (0, 1, 2), episodes (0, 1, 2).
    """

    rewards: FloatArray
    """A rewards."""
    penalties: FloatArray
    """A times what `algorithm.format_penalty` and `overlong_penalty` take."""
    cells: npt.NDArray[np.int64]
    """A cells, from 0."""
    episodes: npt.NDArray[np.int64]
    """C episodes, by their number in the group; numbers of agents where each of these counts as one."""
    calls: tuple[tuple[Call, ...], ...]
    """For each of the A agents its calls, in their order, with texts and tokens."""

    @property
    def totals(self) -> FloatArray:
        """A rewards less their penalties: what is to be compared."""
        return self.rewards - self.penalties

    @property
    def num_cells(self) -> int:
        """C, where every agent of an episode counts as one with its teammates."""
        return len(self.episodes)

    def cell_means(self, values: FloatArray) -> FloatArray:
        """C means of `values` (A) over the agents of a cell."""
        means: FloatArray = np.bincount(self.cells, weights=values) / np.bincount(self.cells)
        return means

    def scaled_totals(self) -> tuple[FloatArray, float]:
        """Totals in units of a power of two near the largest, and that unit: nothing is rounded, and huge rewards have
        squares, too."""
        totals = self.totals
        unit = nearby_power(totals)
        return totals / unit, unit


def nearby_power(values: FloatArray) -> float:
    """A power of two near the largest of the values."""
    return 2.0 ** (math.frexp(float(np.abs(values).max()))[1] - 1)


def all_same(values: FloatArray) -> bool:
    """Whether all values are the same but for rounding."""
    return bool(np.ptp(values) <= _SAME * max(1.0, float(np.abs(values).max())))


def penalty_share(rewards: FloatArray, penalties: FloatArray) -> float:
    """What the spread of totals is to be divided by, so that where all rewards are the same a penalty of c < 1 acts as
    the share c of a reward that is 1 lower, and not as a whole one; 1 where rewards differ, which set the scale."""
    cost = float(np.ptp(penalties))
    return min(1.0, cost) if cost and all_same(rewards) else 1.0
