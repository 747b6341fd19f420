"""The mean over roles of the mean over all tokens that a role has sampled in the batch: `dapo` for each `target_tag` by
itself. No sequence is divided by its own length, which depends on what was decided in it and would bias the gradient,
and no role counts more for saying more. Ours; the same as `dapo` where one role is trained."""

from __future__ import annotations

from ajet.train.algorithms.weights import BatchTotals


def role_mean(length: int, totals: BatchTotals) -> float:
    """The weight of each token of a role."""
    return 1.0 / (totals.num_tags * totals.num_tag_tokens)
