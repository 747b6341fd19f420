"""Dr. GRPO (Liu et al. 2025): the sum over tokens, divided by sequences x a constant length: neither a sequence's own
length nor the batch's changes what a token weighs. TRL's `loss_type="dr_grpo"`, verl's `seq-mean-token-sum-norm`."""

from __future__ import annotations

from ajet.train.algorithms.weights import BatchTotals


def dr_grpo(length: int, totals: BatchTotals, *, dr_grpo_max_length: int) -> float:
    """The weight of each token of the batch."""
    return 1.0 / (totals.num_sequences * dr_grpo_max_length)
