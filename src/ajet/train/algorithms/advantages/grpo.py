"""GRPO (Shao et al. 2024): A = (T - baseline) / (spread + 1e-4). Where all agents of an episode have one total, these
are TRL's mean and its std with n - 1.

With n = G x the most agents an episode has, no advantage exceeds (n - 1) / sqrt(n), what n plain values can reach.

Dividing by the spread makes any difference matter as much as a lost game, also a penalty of .01 where nothing else
differs. There, where all rewards are the same, a penalty of c < 1 acts as the share c of a reward that is 1 lower: the
divisor is the spread of c = 1. Where rewards differ, they set the scale, and a penalty is what it takes from them.
"""

from __future__ import annotations

import math

import numpy as np

from ajet.train.algorithms.outcomes import FloatArray, Outcomes, all_same

STD_EPSILON = 1e-4


def grpo(outcomes: Outcomes) -> FloatArray:
    """One advantage an agent in an episode (A)."""
    scaled_A, unit = outcomes.scaled_totals()
    centred_A = scaled_A - outcomes.cell_means(scaled_A).mean()
    num = outcomes.num_cells
    spread = math.sqrt(float(outcomes.cell_means(centred_A**2).mean()) * num / (num - 1))
    cost = float(np.ptp(outcomes.penalties))
    share = min(1.0, cost) if cost and all_same(outcomes.rewards) else 1.0
    advantages_A: FloatArray = np.divide(centred_A, spread / share + STD_EPSILON / unit)
    return advantages_A
