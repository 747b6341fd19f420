"""REINFORCE (Williams 1992): the log-probability, weighted by the advantage; no ratio, and so no clip.

    loss = -A logp

The policy gradient itself, for tokens that the policy has just sampled: with several optimizer steps a batch, which are
refused, nothing would hold it near the policy that sampled. GPG (Chu et al. 2025) is this loss with a group's
baseline, verl's `loss_mode=gpg`.
"""

from __future__ import annotations

from torch import Tensor

from ajet.train.algorithms.tokens import SampledTokens


def reinforce(tokens: SampledTokens) -> Tensor:
    """The loss of each token (E)."""
    return -tokens.advantages * tokens.logp
