"""GMPO (Zhao et al. 2025, "Geometric-Mean Policy Optimization"): the geometric mean of ratios that are clipped first.

    d = logp - logp_old, held by clip_high from above where A > 0 and by -clip_low from below where A < 0
    loss = -exp(mean over the call's tokens of d) A

One token that has moved far moves the geometric mean little, so bounds may be wide: they hold for the logarithm of the
ratio, the paper's are e^-0.4 and e^0.4. As in `gspo` a reply is one call and the loss stands at each of its tokens, but
tokens are clipped one by one. TRL's `GMPOTrainer`, verl's `loss_mode=geo_mean`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ajet.train.algorithms.ratios import ratio_of
from ajet.train.algorithms.tokens import SampledTokens


def gmpo(tokens: SampledTokens, *, clip_low: float, clip_high: float) -> tuple[Tensor, Tensor]:
    """The loss of each token (E), and where the clip has taken its gradient (E)."""
    log_ratio, advantages = tokens.logp - tokens.logp_old, tokens.advantages
    held = torch.where(advantages > 0, log_ratio.clamp(max=clip_high), log_ratio.clamp(min=-clip_low))
    below = (log_ratio < -clip_low) & (advantages < 0)
    above = (log_ratio > clip_high) & (advantages > 0)
    return -ratio_of(tokens.mean_over_call(held)) * advantages, below | above
