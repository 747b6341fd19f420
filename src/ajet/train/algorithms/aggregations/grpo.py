"""GRPO (Shao et al. 2024): the mean over sequences of the mean over a sequence's tokens, so that a long sequence counts
as much as a short one. TRL's `loss_type="grpo"`, verl's `seq-mean-token-mean`."""

from __future__ import annotations

from ajet.train.algorithms.weights import BatchTotals


def grpo(length: int, totals: BatchTotals) -> float:
    """The weight of each token of a sequence of `length` sampled tokens."""
    return 1.0 / (totals.num_sequences * length)
