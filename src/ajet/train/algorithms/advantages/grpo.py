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

from ajet.train.algorithms.outcomes import STD_EPSILON, FloatArray, Outcomes, penalty_share


def grpo(outcomes: Outcomes, *, scale_rewards: str | None) -> FloatArray:
    """One advantage an agent in an episode (A); not divided where `scale_rewards` says so, or goes by the batch."""
    scaled_A, unit = outcomes.scaled_totals()
    centred_A = scaled_A - outcomes.cell_means(scaled_A).mean()
    if scale_rewards not in (None, "group"):
        undivided_A: FloatArray = np.multiply(centred_A, unit)
        return undivided_A
    num = outcomes.num_cells
    spread = math.sqrt(float(outcomes.cell_means(centred_A**2).mean()) * num / (num - 1))
    share = penalty_share(outcomes.rewards, outcomes.penalties)
    advantages_A: FloatArray = np.divide(centred_A, spread / share + STD_EPSILON / unit)
    return advantages_A
