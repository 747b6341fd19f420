"""CISPO (MiniMax-M1, 2025): the ratio is a constant weight with a cap, so that no token loses its gradient.

    loss = -min(r, cap) A logp, with no gradient through min(r, cap)

A clip takes the gradient of rare tokens first, for their ratios move most; here they go on learning with a bounded
weight. ScaleRL (Khatri et al. 2025) has the cap at 5. TRL's `loss_type="cispo"` calls the cap `epsilon_high`; verl's
`loss_mode=cispo` has 1 + `clip_ratio_high`. TRL's `cispo_clip_ratio` counts capped tokens with A > 0 alone. The paper's
aggregation is `dapo`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ajet.train.algorithms.ratios import Positive, ratio_of
from ajet.train.algorithms.tokens import SampledTokens

CAP = 5.0


def cispo(tokens: SampledTokens, *, cap: Positive = CAP) -> tuple[Tensor, Tensor, Tensor]:
    """The loss of each token (E), where a clip has taken its gradient (nowhere; E), and where the cap holds its weight
    (E)."""
    ratio = ratio_of(tokens.logp - tokens.logp_old).detach()
    return -ratio.clamp(max=cap) * tokens.advantages * tokens.logp, torch.zeros_like(ratio), ratio > cap
