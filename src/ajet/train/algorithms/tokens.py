"""What a loss is told about the sampled tokens of a pack. Pure torch.

A token that two rows sampled after one prefix is computed once and stands here twice, once for each row: a loss reads
these as if nothing had been merged.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledTokens:
    """E sampled tokens, those of one call side by side and all of them there.

    Example: two calls that sampled (8, 2) and (4): E = 3 and calls (0, 0, 1).
    """

    logp: Tensor
    """E log-probabilities under the policy that is being trained, at `rollout.temperature`; with gradient."""
    logp_old: Tensor
    """E, under the policy before the training step's first optimizer step. Without a correction for the
    sampler (`tis_cap`, `mis_high` and so on) it is what the engine reported: the engine samples from that policy."""
    logp_sampled: Tensor
    """E, under the distribution sampled from, as the engine reported them."""
    advantages: Tensor
    """E advantages."""
    entropy: Tensor
    """E entropies of the predicting distributions, nats; with gradient only where there is an entropy bonus."""
    calls: Tensor
    """E int64, from 0: which of the pack's calls sampled the token."""

    def sum_over_call(self, values: Tensor) -> Tensor:
        """For each token (E) the sum of `values` (E) over the tokens of its call; gradients flow through."""
        sums_C = values.new_zeros(int(self.calls.max()) + 1).index_add(0, self.calls, values)
        return sums_C[self.calls]

    def mean_over_call(self, values: Tensor) -> Tensor:
        """For each token (E) the mean of `values` (E) over the tokens of its call; gradients flow through."""
        return self.sum_over_call(values) / torch.bincount(self.calls)[self.calls]


def example_tokens() -> SampledTokens:
    """A few tokens as any batch has them, to try a loss on: likely and unlikely, moved up and down, with advantages of
    either sign and none."""
    logp = torch.tensor([-0.02, -1.2, -7.0, -0.7, -2.5, -0.3], requires_grad=True)
    moved = torch.tensor([0.0, 0.1, -0.4, 0.4, 0.0, -0.01])
    return SampledTokens(
        logp=logp,
        logp_old=logp.detach() - moved,
        logp_sampled=logp.detach() - moved,
        advantages=torch.tensor([1.0, 1.0, 1.0, -0.5, -0.5, 0.0]),
        entropy=torch.tensor([0.1, 1.0, 2.0, 0.7, 1.5, 0.4]),
        calls=torch.tensor([0, 0, 0, 1, 1, 2]),
    )
