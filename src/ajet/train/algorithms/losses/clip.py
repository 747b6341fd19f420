"""The clipped surrogate of PPO (Schulman et al. 2017), as GRPO and its kin use it, a ratio a token.

    r = exp(logp - logp_old),  loss = -min(r A, clip(r, 1 - clip_low, 1 + clip_high) A)

On policy r is 1 and the gradient that of -A logp. The clip takes a token's gradient away once the policy has moved far
enough in the direction of its advantage; unlike bounds above and below are DAPO's "clip higher" (Yu et al. 2025).
"""

from __future__ import annotations

from torch import Tensor

from ajet.train.algorithms.ratios import clipped_surrogate, ratio_of
from ajet.train.algorithms.tokens import SampledTokens


def clip(tokens: SampledTokens, *, clip_low: float, clip_high: float) -> tuple[Tensor, Tensor]:
    """The loss of each token (E), and where the clip has taken its gradient (E)."""
    ratio = ratio_of(tokens.logp - tokens.logp_old)
    return clipped_surrogate(ratio, tokens.advantages, clip_low=clip_low, clip_high=clip_high)
