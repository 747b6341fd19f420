"""RLOO (Ahmadian et al. 2024): A = T - mean of the other episodes, a baseline that does not depend on the episode
itself, so that the gradient is unbiased for any number of episodes."""

from __future__ import annotations

import numpy as np

from ajet.train.algorithms.outcomes import FloatArray, Outcomes


def rloo(outcomes: Outcomes) -> FloatArray:
    """One advantage an agent in an episode (A)."""
    scaled_A, unit = outcomes.scaled_totals()
    means_C = outcomes.cell_means(scaled_A)
    # Leaving one out leaves the whole episode out, its other tags too where those share the baseline.
    others_C: FloatArray = np.array([means_C[outcomes.episodes != episode].mean() for episode in outcomes.episodes])
    advantages_A: FloatArray = np.multiply(scaled_A - others_C[outcomes.cells], unit)
    return advantages_A
