"""Dual clip (Ye et al. 2020, "Mastering Complex Control in MOBA Games"; two-sided GRPO in INTELLECT-2, 2025).

    loss = -min(min(r, delta) A, clip(r, 1 - clip_low, 1 + clip_high) A)

The clipped surrogate has no bound where A < 0 and r is large: a token that was punished and has become likelier all the
same pulls with its whole ratio. From `delta` on it loses its gradient. TRL's `delta`, verl's `clip_ratio_c`.
"""

from __future__ import annotations

from torch import Tensor

from ajet.train.algorithms.ratios import Positive, clipped_surrogate, ratio_of
from ajet.train.algorithms.tokens import SampledTokens


def dual_clip(tokens: SampledTokens, *, clip_low: float, clip_high: float, delta: Positive) -> tuple[Tensor, Tensor]:
    """The loss of each token (E), and where either clip has taken its gradient (E); `delta` is above 1 + clip_high."""
    ratio = ratio_of(tokens.logp - tokens.logp_old)
    held = ratio.clamp(max=delta)
    loss, clipped = clipped_surrogate(held, tokens.advantages, clip_low=clip_low, clip_high=clip_high)
    return loss, clipped | ((ratio > delta) & (tokens.advantages < 0))
