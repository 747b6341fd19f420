"""KL-Cov (Cui et al. 2025, "The Entropy Mechanism of Reinforcement Learning for Reasoning Language Models", arXiv
2505.22617): the few tokens of a step that cost most entropy are held where they were. Pure torch.

    c = (logp_old - mean logp_old) (A - mean A),  loss + kl_cov_coef |logp - logp_old|  where c is among the largest

A step changes entropy by about the covariance of logp and advantage: what is likely already and does well makes the
policy surer. Means, and the share that is held, are over all sampled tokens of an optimizer step. Only tokens
with c above 0 cost any: where all advantages are the same, as in a minibatch of silent groups, all tie at 0 and none is
held. As logp stands the one before the step: in the paper, and in verl's `loss_mode=kl_cov`, it is the policy's at that
very optimizer step, which is the same in the first, where the penalty is 0, and would cost a forward pass in the
others. Its loss has no clip beside.

Clip-Cov, the other half of that paper, takes the gradient of a random few of such tokens. It is left out: which tokens
a draw falls on would depend on how they are packed and shared out over processes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ajet.train.algorithms.tokens import SampledTokens


@dataclass(frozen=True, slots=True, kw_only=True)
class LargestCovariances:
    """Which tokens of an optimizer step are held, told by means and a bound."""

    mean_logp: float
    mean_advantage: float
    least: float
    """The smallest covariance that is among the largest."""

    def held(self, tokens: SampledTokens) -> Tensor:
        """Where a token is one of them (E); 1.0 or 0.0."""
        covariance_E = _covariances(tokens.logp_old, tokens.advantages, self.mean_logp, self.mean_advantage)
        return ((covariance_E >= self.least) & (covariance_E > 0)).to(tokens.logp.dtype)

    def distance(self, tokens: SampledTokens) -> Tensor:
        """|logp - logp_old| of those that are held, 0 of others (E); to be weighted."""
        return self.held(tokens) * (tokens.logp - tokens.logp_old).abs()


def largest_covariances(logp_N: Tensor, advantages_N: Tensor, share: float) -> LargestCovariances:
    """Of all N sampled tokens of an optimizer step, at least one: the `share` with the largest, at least one of them;
    of these `held` leaves out what is not above 0.

    Args:
        logp_N: log-probabilities before the training step.
        advantages_N: their advantages.
        share: of the tokens; what ties with the last of them is held, too.
    """
    # Each token must be on the same side of the bound here and where its pack is computed: the same numbers,
    # in float32.
    means = logp_N.double().mean().item(), advantages_N.double().mean().item()
    num = max(1, int(len(logp_N) * share))
    least = torch.topk(_covariances(logp_N, advantages_N, *means), num).values[-1].item()
    return LargestCovariances(mean_logp=means[0], mean_advantage=means[1], least=least)


def _covariances(logp: Tensor, advantages: Tensor, mean_logp: float, mean_advantage: float) -> Tensor:
    return (logp.float() - mean_logp) * (advantages.float() - mean_advantage)
