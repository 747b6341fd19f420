"""The clipped surrogate with its corrections, a value a loss entry. Pure torch.

An entry (E) is one sampled token of one row. Formulas: DESIGN §7; clipping after PPO (Schulman et al. 2017), k3 after
Schulman's "Approximating KL divergence", TIS and MIS as truncated and masked importance sampling between the
distribution sampled from (mu) and the trainer's old policy (`token_truncate` and `token_mask` in TRL).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ajet.config.algorithm import AlgorithmConfig


def k3(logp_E: Tensor, logp_ref_E: Tensor) -> Tensor:
    """k3 estimate of KL(pi || ref): exp(-d) + d - 1 with d = logp - logp_ref; never negative."""
    d = logp_E - logp_ref_E
    return torch.exp(-d) + d - 1


def clipped(logp_E: Tensor, logp_old_E: Tensor, advantage_E: Tensor, algorithm: AlgorithmConfig) -> Tensor:
    """Where the clip is active, so that the entry has no gradient (1.0 or 0.0)."""
    ratio = torch.exp(logp_E - logp_old_E)
    low = (ratio < 1 - algorithm.clip_low) & (advantage_E < 0)
    high = (ratio > 1 + algorithm.clip_high) & (advantage_E > 0)
    return (low | high).to(logp_E.dtype)


def certain(entropy_E: Tensor, algorithm: AlgorithmConfig) -> Tensor:
    """Where the policy was too sure for its token to be credited (1.0 or 0.0)."""
    return (entropy_E.detach() < algorithm.min_entropy).to(entropy_E.dtype)


def sampling_correction(logp_old_E: Tensor, logp_mu_E: Tensor, algorithm: AlgorithmConfig) -> Tensor:
    """The constant weight of each entry for pi_old != mu: pi_old / mu, capped, and 0 outside the band.

    Example: with a band from .5 to 2, ratios .4, .8, 1.9, 2.5 weigh 0, .8, 1.9, 0.
    """
    ratio = torch.exp(logp_old_E - logp_mu_E).detach()
    outside = torch.zeros_like(ratio, dtype=torch.bool)
    if algorithm.mis_low is not None:
        outside |= ratio < algorithm.mis_low
    if algorithm.mis_high is not None:
        outside |= ratio > algorithm.mis_high
    # Filled and not multiplied: a ratio too large for a float is dropped as well.
    weight = ratio if algorithm.tis_cap is None else ratio.clamp(max=algorithm.tis_cap)
    return weight.masked_fill(outside, 0.0)


def token_losses(
    logp_E: Tensor,
    logp_old_E: Tensor,
    logp_mu_E: Tensor,
    advantage_E: Tensor,
    algorithm: AlgorithmConfig,
    *,
    kl_coef: float,
    logp_ref_E: Tensor | None = None,
    entropy_E: Tensor | None = None,
) -> Tensor:
    """-min(r A, clip(r) A), corrected, plus KL penalty, minus entropy bonus: a value an entry, to be weighted.

    Args:
        logp_E: log-probabilities under the policy being trained, with gradient.
        logp_old_E: under the policy before this batch's first optimizer step.
        logp_mu_E: under the distribution sampled from, as the engine reported it.
        advantage_E: advantages.
        algorithm: bounds and coefficients.
        kl_coef: weight of the KL penalty now; `algorithm.kl_coef` is what its schedule starts from.
        logp_ref_E: under the reference model; required where `kl_coef` is not 0.
        entropy_E: of the predicting distributions, with gradient; required where `entropy_coef` or `min_entropy` is
            not 0.
    """
    ratio = torch.exp(logp_E - logp_old_E)
    bounded = ratio.clamp(1 - algorithm.clip_low, 1 + algorithm.clip_high)
    loss = -torch.minimum(ratio * advantage_E, bounded * advantage_E)
    if algorithm.corrects_sampling:
        loss = loss * sampling_correction(logp_old_E, logp_mu_E, algorithm)
    if algorithm.min_entropy:
        assert entropy_E is not None, "leaving certain tokens out needs the entropies"
        loss = loss * (1 - certain(entropy_E, algorithm))
    if kl_coef:
        assert logp_ref_E is not None, "a KL penalty needs the reference's log-probabilities"
        loss = loss + kl_coef * k3(logp_E, logp_ref_E)
    if algorithm.entropy_coef:
        assert entropy_E is not None, "an entropy bonus needs the entropies"
        loss = loss - algorithm.entropy_coef * entropy_E
    return loss
