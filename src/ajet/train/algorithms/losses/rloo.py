"""RLOO's loss (Ahmadian et al. 2024, as TRL's `RLOOTrainer` has it): one ratio a reply, the product of its tokens'.

    r = exp(sum over the call's tokens of (logp - logp_old)),  loss = -min(r A, clip(r, 1 - clip_low, 1 + clip_high) A)

On policy the gradient is REINFORCE's of whole replies, A times that of log pi(reply): `aggregation=grpo` takes the mean
over replies, where an episode is one call. A reply is one action here, so every token of a long one counts. Where a
batch has several optimizer steps, the first ones move the ratio, a product, further the longer the reply is: one that
has left the bounds on the side of its advantage has no gradient in the others (`policy/<tag>/clip_fraction`), so that
long replies ask for few steps or wider bounds.
"""

from __future__ import annotations

from torch import Tensor

from ajet.train.algorithms.ratios import clipped_surrogate, ratio_of
from ajet.train.algorithms.tokens import SampledTokens


def rloo(tokens: SampledTokens, *, clip_low: float, clip_high: float) -> tuple[Tensor, Tensor]:
    """The loss of each token (E), and where the clip has taken its call's gradient (E)."""
    ratio = ratio_of(tokens.sum_over_call(tokens.logp - tokens.logp_old))
    return clipped_surrogate(ratio, tokens.advantages, clip_low=clip_low, clip_high=clip_high)
