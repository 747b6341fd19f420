"""What every token loss is surrounded with: corrections for the sampler, credit for uncertain tokens only, KL
penalties, entropy bonus. Pure torch.

An entry (E) is one sampled token of one row. What corrects for the sampler stands in `corrections`, the penalties in
`kl` and `kl_cov`.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ajet.config.algorithm import AlgorithmConfig
from ajet.train.algorithms.corrections import correction
from ajet.train.algorithms.kl import kl_loss
from ajet.train.algorithms.kl_cov import LargestCovariances
from ajet.train.algorithms.tokens import SampledTokens


def certain(entropy_E: Tensor, least: float) -> Tensor:
    """Where the policy was too sure for its token to be credited (1.0 or 0.0): its entropy is below `least`."""
    return (entropy_E.detach() < least).to(entropy_E.dtype)


def least_of_top(entropy_N: Tensor, share: float) -> float:
    """The entropy from which on a token is among the `share` of N tokens that have most.

    Example: with a share of .5, of entropies 0, 1, 2, 3 and 4 it is 2.
    """
    # Of float32, as they are: rounded otherwise, the token that stands at the border would fall to either side.
    return float(np.quantile(entropy_N.detach().float().cpu().numpy(), 1 - share))


def is_plain(algorithm: AlgorithmConfig) -> bool:
    """Whether `objective` gives the token loss as it is, so that whoever computes that loss elsewhere computes all."""
    credits_all = not algorithm.min_entropy and algorithm.top_entropy_quantile == 1
    corrects = algorithm.corrects_sampling or algorithm.off_policy_threshold is not None
    holds = algorithm.kl_in_loss or algorithm.kl_cov_share
    return credits_all and not corrects and not holds and not algorithm.pays_entropy


def objective(
    loss_E: Tensor,
    tokens: SampledTokens,
    algorithm: AlgorithmConfig,
    *,
    kl_coef: float = 0.0,
    logp_ref_E: Tensor | None = None,
    least_entropy: float = 0.0,
    held: LargestCovariances | None = None,
    entropy_coef_E: Tensor | None = None,
) -> Tensor:
    """The token loss, corrected, plus KL penalties, minus entropy bonus: a value an entry, to be weighted.

    Penalties and bonus come last: they hold for tokens without credit, too.

    Args:
        loss_E: of `algorithm.loss`.
        tokens: what that loss was told.
        algorithm: bounds and coefficients.
        kl_coef: weight of the KL penalty now; `algorithm.kl_coef` is what its schedule starts from.
        logp_ref_E: under the reference model; required where `kl_coef` is not 0.
        least_entropy: of a token that is credited, nats.
        held: which tokens are held where they were before the training step, by `algorithm.kl_cov_coef`; None for none.
        entropy_coef_E: weight of each token's bonus now; None: `algorithm.entropy_coef`.
    """
    if algorithm.corrects_sampling or algorithm.off_policy_threshold is not None:
        loss_E = loss_E * correction(tokens, algorithm)
    if least_entropy:
        loss_E = loss_E * (1 - certain(tokens.entropy, least_entropy))
    if kl_coef:
        assert logp_ref_E is not None, "a KL penalty needs the reference's log-probabilities"
        loss_E = loss_E + kl_coef * kl_loss(tokens, logp_ref_E, algorithm)
    if held is not None:
        loss_E = loss_E + algorithm.kl_cov_coef * held.distance(tokens)
    if algorithm.pays_entropy:
        loss_E = loss_E - (algorithm.entropy_coef if entropy_coef_E is None else entropy_coef_E) * tokens.entropy
    return loss_E
