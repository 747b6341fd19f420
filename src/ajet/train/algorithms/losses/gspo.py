"""GSPO (Zheng et al. 2025): one ratio a reply, the geometric mean of its tokens' ratios, clipped whole.

    s = exp(mean over the call's tokens of (logp - logp_old)),  loss = -min(s A, clip(s, 1 - clip_low, 1 + clip_high) A)

A reply is one call, TRL's completion. The loss stands at each of its tokens, so `aggregation=grpo` gives the paper's
mean over replies where an episode is one call; of several, each weighs by its length, and has a ratio of its own. As s
moves far less than a token's ratio, the paper's bounds are 3e-4 and 4e-4. TRL's `importance_sampling_level="sequence"`.
"""

from __future__ import annotations

from torch import Tensor

from ajet.train.algorithms.ratios import clipped_surrogate, ratio_of
from ajet.train.algorithms.tokens import SampledTokens


def gspo(tokens: SampledTokens, *, clip_low: float, clip_high: float) -> tuple[Tensor, Tensor]:
    """The loss of each token (E), and where the clip has taken its call's gradient (E)."""
    ratio = ratio_of(tokens.mean_over_call(tokens.logp - tokens.logp_old))
    return clipped_surrogate(ratio, tokens.advantages, clip_low=clip_low, clip_high=clip_high)
