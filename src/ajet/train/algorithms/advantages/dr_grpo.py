"""Dr. GRPO (Liu et al. 2025): A = T - baseline. Without the division by the spread, groups that differ little teach
little: a nearly solved task no longer weighs as much as one that is won half of the time."""

from __future__ import annotations

import numpy as np

from ajet.train.algorithms.outcomes import FloatArray, Outcomes


def dr_grpo(outcomes: Outcomes) -> FloatArray:
    """One advantage an agent in an episode (A)."""
    scaled_A, unit = outcomes.scaled_totals()
    advantages_A: FloatArray = np.multiply(scaled_A - outcomes.cell_means(scaled_A).mean(), unit)
    return advantages_A
