"""DAPO (Yu et al. 2025): the mean over all tokens of the global batch, ranks and accumulation included, so that a long
sequence counts by its length. TRL's `loss_type="dapo"`, verl's `token-mean`."""

from __future__ import annotations

from ajet.train.algorithms.weights import BatchTotals


def dapo(length: int, totals: BatchTotals) -> float:
    """The weight of each token of the batch."""
    return 1.0 / totals.num_tokens
