"""SAPO (Gao et al. 2025, "Soft Adaptive Policy Optimization"): a soft gate in place of the clip.

    loss = -(4 / tau) sigmoid(tau (r - 1)) A, with tau = temperature_pos where A > 0, else temperature_neg

Its gradient falls smoothly from that of -r A at r = 1 to nothing on either side, the sooner the higher tau: punished
tokens, whose gradients spread over the whole vocabulary, are let go sooner. TRL's `loss_type="sapo"` with
`sapo_temperature_pos` and `sapo_temperature_neg`, verl's `loss_mode=sapo` with `tau_pos` and `tau_neg`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ajet.train.algorithms.ratios import Positive, ratio_of
from ajet.train.algorithms.tokens import SampledTokens


def sapo(tokens: SampledTokens, *, temperature_pos: Positive = 1.0, temperature_neg: Positive = 1.05) -> Tensor:
    """The loss of each token (E)."""
    ratio, advantages = ratio_of(tokens.logp - tokens.logp_old), tokens.advantages
    tau = torch.where(advantages > 0, temperature_pos, temperature_neg)
    return -torch.sigmoid(tau * (ratio - 1)) * 4 / tau * advantages
