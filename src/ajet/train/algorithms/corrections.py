"""What a token's loss is multiplied by because it was sampled from another distribution than the one that learns. Pure.

`sampling_correction` is for an engine that rounds otherwise than the trainer, or sampled with older weights: importance
sampling from the distribution sampled from (mu) to the policy before the update (pi_old), truncated (TIS) or masked
(MIS), of a token or of its call. TRL's `vllm_importance_sampling_mode` has the same four, `token_truncate` to
`sequence_mask`; its default is `sequence_mask` up to 3: `correction_level=sequence`, `mis_high=3`.

`off_policy_mask` leaves out calls that the policy has left behind (DeepSeek-V3.2, 2025, equation 9).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ajet.config.algorithm import AlgorithmConfig
from ajet.train.algorithms.ratios import ratio_of
from ajet.train.algorithms.tokens import SampledTokens


def correction(tokens: SampledTokens, algorithm: AlgorithmConfig) -> Tensor:
    """The constant weight of each token (E), of whatever is switched on; ones where nothing is."""
    weight_E = torch.ones_like(tokens.logp_old)
    if algorithm.corrects_sampling:
        weight_E = weight_E * sampling_correction(tokens, algorithm)
    if algorithm.off_policy_threshold is not None:
        weight_E = weight_E * off_policy_mask(tokens, algorithm.off_policy_threshold)
    return weight_E


def sampling_correction(tokens: SampledTokens, algorithm: AlgorithmConfig) -> Tensor:
    """pi_old / mu of each token (E), held by `tis_floor` and `tis_cap`, and 0 outside of `mis_low` to `mis_high`.

    With `correction_level=sequence` the ratio is the product over the token's call.
    Example: with a band from .5 to 2, ratios .4, .8, 1.9, 2.5 weigh 0, .8, 1.9, 0.
    """
    log_ratio_E = (tokens.logp_old - tokens.logp_sampled).detach()
    if algorithm.correction_level == "sequence":
        log_ratio_E = tokens.sum_over_call(log_ratio_E)
    ratio_E = ratio_of(log_ratio_E)
    outside_E = torch.zeros_like(ratio_E, dtype=torch.bool)
    if algorithm.mis_low is not None:
        outside_E |= ratio_E < algorithm.mis_low
    if algorithm.mis_high is not None:
        outside_E |= ratio_E > algorithm.mis_high
    if algorithm.tis_floor is not None or algorithm.tis_cap is not None:
        ratio_E = ratio_E.clamp(min=algorithm.tis_floor, max=algorithm.tis_cap)
    return ratio_E.masked_fill(outside_E, 0.0)


def off_policy_mask(tokens: SampledTokens, threshold: float) -> Tensor:
    """0 for tokens (E) with A < 0 of calls whose mean of log(mu / pi) exceeds `threshold`, in nats, else 1.

    Punishing what the policy no longer says moves it at random. TRL's `off_policy_mask_threshold`.
    """
    distance_E = tokens.mean_over_call(tokens.logp_sampled - tokens.logp.detach())
    return ((tokens.advantages >= 0) | (distance_E <= threshold)).to(distance_E.dtype)
