"""Several tries at a task, and several tests at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence


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
