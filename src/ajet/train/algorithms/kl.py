"""KL(pi || ref), which holds the policy to a reference, estimated on sampled tokens: k1, k2 and k3. Pure torch.

With d = logp - logp_ref of a sampled token (Schulman, "Approximating KL divergence", 2020):

    k1 = d    k2 = d^2 / 2    k3 = exp(-d) + d - 1

As *numbers* k1 and k3 have the KL for their mean, k3 with less variance and never below 0; k2 is biased. As a *loss* it
is the gradient that counts, and the mean of a gradient leaves out that the sampling, too, depends on the policy. With s
= grad logp, over tokens that the policy itself sampled (Liu et al. 2025, "Rethinking KL Regularization in RLHF", arXiv
2510.01555):

    k1: mean of s = 0: it pulls nowhere, and is noise.
    k2: mean of d s: the gradient of KL(pi || ref), as of a reward of -k1.
    k3: mean of (1 - exp(-d)) s: that of KL(ref || pi); the same to first order in d. GRPO's.

Weighted by the token's ratio r = exp(logp - logp_old), which has a gradient itself even where it is 1, the mean is that
of the tokens that the policy would sample now, and its gradient is complete: (d + 1) r s for k1 and d r s for k3 are
both those of KL(pi || ref), that of k2 is another. DeepSeek-V3.2 (2025) has k3 so; TRL's `use_bias_correction_kl`.

All of them hold a token to the reference after what was said before it, and none asks what it makes later tokens cost.
That a reward does, in which k1 is the estimate to take: `ajet.train.reference`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ajet.config.algorithm import AlgorithmConfig
from ajet.train.algorithms.ratios import ratio_of
from ajet.train.algorithms.tokens import SampledTokens


def k1(logp_E: Tensor, logp_ref_E: Tensor) -> Tensor:
    """d = logp - logp_ref; of either sign."""
    return logp_E - logp_ref_E


def k2(logp_E: Tensor, logp_ref_E: Tensor) -> Tensor:
    """d^2 / 2; never negative."""
    return (logp_E - logp_ref_E).square() / 2


def k3(logp_E: Tensor, logp_ref_E: Tensor) -> Tensor:
    """exp(-d) + d - 1; never negative."""
    d = logp_E - logp_ref_E
    return torch.exp(-d) + d - 1


ESTIMATORS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"k1": k1, "k2": k2, "k3": k3}
"""What `algorithm.kl_estimator` names."""


def kl_loss(tokens: SampledTokens, logp_ref_E: Tensor, algorithm: AlgorithmConfig) -> Tensor:
    """The penalty on each token (E), nats, before its coefficient."""
    kl_E = ESTIMATORS[algorithm.kl_estimator or "k3"](tokens.logp, logp_ref_E)
    return kl_E * ratio_of(tokens.logp - tokens.logp_old) if algorithm.kl_bias_correction else kl_E
