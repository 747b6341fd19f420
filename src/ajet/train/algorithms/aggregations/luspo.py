"""LUSPO (2026, arXiv 2602.05261, "Length-Unbiased Sequence Policy Optimization"): the mean over sequences of the sum
over a sequence's tokens. With a loss that stands at each token of a reply (`gspo`) a reply counts by its length; with
one of a token's own, it is the policy gradient of whole sequences. TRL's `loss_type="luspo"`, verl's
`seq-mean-token-sum`."""

from __future__ import annotations

from ajet.train.algorithms.weights import BatchTotals


def luspo(length: int, totals: BatchTotals) -> float:
    """The weight of each token of the batch."""
    return 1.0 / totals.num_sequences
