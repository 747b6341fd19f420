"""GSPO-token (Zheng et al. 2025): GSPO's ratio and clip, with a gradient and an advantage of each token's own.

    s_t = stop(s) exp(logp) / stop(exp(logp)),  loss = -min(s_t A_t, clip(s_t, 1 - clip_low, 1 + clip_high) A_t)

where s is the call's ratio as in `gspo` and stop() has no gradient. Values are GSPO's; so is the gradient where all
tokens of a call have one advantage and one weight. verl's `loss_mode=gspo` is this one.
"""

from __future__ import annotations

from torch import Tensor

from ajet.train.algorithms.ratios import clipped_surrogate, ratio_of
from ajet.train.algorithms.tokens import SampledTokens


def gspo_token(tokens: SampledTokens, *, clip_low: float, clip_high: float) -> tuple[Tensor, Tensor]:
    """The loss of each token (E), and where the clip has taken its gradient (E)."""
    of_call = tokens.mean_over_call(tokens.logp - tokens.logp_old).detach()
    ratio = ratio_of(of_call + tokens.logp - tokens.logp.detach())
    return clipped_surrogate(ratio, tokens.advantages, clip_low=clip_low, clip_high=clip_high)
