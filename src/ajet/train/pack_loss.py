"""The loss of a pack's sampled tokens, as the learning rule says it, and what is told of them by tag.

In: a pack, and what the policy says about its entries, from whichever model. Out: a scalar that has gradients where the
log-probabilities have; statistics in a `TagSums`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ajet.train.algorithms.corrections import correction
from ajet.train.algorithms.kl import k3
from ajet.train.algorithms.objective import certain, objective
from ajet.train.algorithms.ratios import ratio_of
from ajet.train.algorithms.rule import LearningRule
from ajet.train.algorithms.tokens import SampledTokens
from ajet.train.packing import Pack
from ajet.train.scoring import PackOutput
from ajet.train.step_bounds import NO_BOUNDS, StepBounds
from ajet.train.tag_sums import TagSums


def pack_loss(
    rule: LearningRule,
    pack: Pack,
    output: PackOutput,
    sums: TagSums,
    *,
    old_E: Tensor | None,
    reference_E: Tensor | None,
    kl_coef: float,
    on_policy: bool,
    bounds: StepBounds = NO_BOUNDS,
    entropy_coefs: Sequence[float] | None = None,
) -> Tensor:
    """The sum of the pack's token losses, each with its weight in the optimizer step.

    Args:
        rule: loss and corrections.
        pack: the rows.
        output: what the policy says of them now.
        sums: adds up what is reported.
        old_E: log-probabilities before the batch's first step; None where they are those that were sampled with.
        reference_E: log-probabilities under the starting model; None without a penalty that asks for them.
        kl_coef: the penalty's weight in this step.
        on_policy: whether the policy is still the one that sampled.
        bounds: of the optimizer step's tokens.
        entropy_coefs: weight of the entropy bonus in this step, of each tag; None: `algorithm.entropy_coef`.
    """
    tokens = sampled_tokens(pack, output, old_E)
    loss_E, clipped_E, capped_E = rule.token_losses(tokens)
    loss_E = objective(
        loss_E,
        tokens,
        rule.config,
        kl_coef=kl_coef,
        logp_ref_E=reference_E,
        least_entropy=bounds.least_entropy,
        held=bounds.covariances,
        entropy_coef_E=None if entropy_coefs is None else loss_E.new_tensor(entropy_coefs)[pack.tags],
    )
    weight_E = torch.from_numpy(pack.weights).to(loss_E.device, torch.float32)
    with torch.no_grad():
        logp_E, mu_E = tokens.logp.detach(), tokens.logp_sampled
        correction_E, log_ratio_E = correction(tokens, rule.config), logp_E - tokens.logp_old
        importance_E = correction_E * ratio_of(log_ratio_E)
        sums.add(
            torch.from_numpy(pack.tags),
            (logp_E - mu_E).abs() * on_policy,
            log_ratio_E,
            entropy=tokens.entropy.detach(),
            certain_fraction=certain(tokens.entropy, bounds.least_entropy),
            held_fraction=torch.zeros_like(logp_E) if bounds.covariances is None else bounds.covariances.held(tokens),
            clip_fraction=clipped_E,
            clip_fraction_low=clipped_E * (tokens.advantages < 0),
            clip_fraction_high=clipped_E * (tokens.advantages > 0),
            capped_fraction=capped_E,
            masked_fraction=(correction_E == 0).float(),
            weight=importance_E,
            weight_squared=importance_E.double().square(),
            # In double: k3 of two nearly equal numbers is nearly all rounding in float32.
            mismatch_kl=k3(mu_E.double(), logp_E.double()) * on_policy,
            on_policy=torch.full_like(logp_E, float(on_policy)),
            kl_ref=torch.zeros_like(logp_E) if reference_E is None else k3(logp_E, reference_E),
            credit=(weight_E * tokens.advantages).abs(),
            loss=(weight_E * loss_E).detach(),
        )
    return (weight_E * loss_E).sum()


def sampled_tokens(pack: Pack, output: PackOutput, old_E: Tensor | None) -> SampledTokens:
    """The pack's entries as a loss is told them."""
    device = output.logp_E.device
    sampled_E = torch.from_numpy(pack.logprobs).to(device, torch.float32)
    return SampledTokens(
        logp=output.logp_E,
        logp_old=sampled_E if old_E is None else old_E,
        logp_sampled=sampled_E,
        advantages=torch.from_numpy(pack.advantages).to(device, torch.float32),
        entropy=output.entropy_E,
        calls=torch.from_numpy(pack.calls).to(device),
    )
