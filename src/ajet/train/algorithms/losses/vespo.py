"""VESPO (2026, arXiv 2602.10693, "Variational Sequence-Level Soft Policy Optimization"): a soft weight by reply.

    w = product over the call's tokens of pi / mu,  loss = -w^k e^(lambda (1 - w)) A logp, no gradient through w

with k and lambda of their own for A >= 0 and A < 0. The weight is 1 at w = 1 and falls smoothly on either side, so that
replies that the policy has left behind, or made much likelier, teach little. mu is what was sampled from: the ratio
holds what the engine rounds otherwise and what has changed since, so no further correction is applied. TRL's
`loss_type="vespo"` with its `vespo_*`. The paper's aggregation is `dapo`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ajet.train.algorithms.ratios import LARGEST_LOG_RATIO, Positive
from ajet.train.algorithms.tokens import SampledTokens

_SMALLEST_LOG_WEIGHT = math.log(1e-8)
"""As in TRL's code: below, a reply weighs nothing anyway."""


def vespo(
    tokens: SampledTokens,
    *,
    k_pos: Positive = 2.0,
    lambda_pos: Positive = 3.0,
    k_neg: Positive = 3.0,
    lambda_neg: Positive = 2.0,
) -> Tensor:
    """The loss of each token (E)."""
    log_ratio = (tokens.logp.detach() - tokens.logp_sampled).clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)
    log_w = tokens.sum_over_call(log_ratio).clamp(_SMALLEST_LOG_WEIGHT, LARGEST_LOG_RATIO)
    good = tokens.advantages >= 0
    k, decay = torch.where(good, k_pos, k_neg), torch.where(good, lambda_pos, lambda_neg)
    weight = torch.exp(decay + k * log_w - decay * torch.exp(log_w))
    return -weight * tokens.advantages * tokens.logp
