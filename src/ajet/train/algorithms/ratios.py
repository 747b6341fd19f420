"""Ratios of the policy to an earlier one, and the surrogate that is clipped by them: what several losses share. Pure.

A ratio is a token's, or a call's, which then stands at each of the call's tokens.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

Positive = Annotated[float, Field(gt=0)]
"""What `algorithm.loss_args` may set: a number above 0."""
LARGEST_LOG_RATIO = 20.0
"""Beyond e^20 a ratio is held: it has no gradient there, where that of a larger one would soon be no number."""


def ratio_of(log_ratio: Tensor) -> Tensor:
    """exp(log_ratio), of any shape."""
    return torch.exp(log_ratio.clamp(max=LARGEST_LOG_RATIO))


def clipped_surrogate(
    ratio_E: Tensor, advantages_E: Tensor, *, clip_low: float, clip_high: float
) -> tuple[Tensor, Tensor]:
    """-min(r A, clip(r, 1 - clip_low, 1 + clip_high) A), and where the clip has taken the gradient (both E)."""
    bounded_E = ratio_E.clamp(1 - clip_low, 1 + clip_high)
    loss_E = -torch.minimum(ratio_E * advantages_E, bounded_E * advantages_E)
    below_E = (ratio_E < 1 - clip_low) & (advantages_E < 0)
    above_E = (ratio_E > 1 + clip_high) & (advantages_E > 0)
    return loss_E, below_E | above_E
