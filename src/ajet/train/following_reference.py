"""What a KL penalty holds the policy to: the starting model, or a reference that follows the policy, of which every n
training steps it takes over some weights.

    ref <- alpha * policy + (1 - alpha) * ref, weight by weight

A KL penalty to it bounds how far the policy moves within some steps, and no longer how far it gets (TR-DPO, Gorbatovski
et al. 2024, arXiv 2404.09656; ProRL, Liu et al. 2025, arXiv 2505.24864, with alpha = 1). TRL's `sync_ref_model`,
`ref_model_sync_steps` and `ref_model_mixup_alpha`, which counts optimizer steps.

Left out: adapters, whose reference is the model beneath them, and models whose weights are shared out among processes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ajet.config.algorithm import AlgorithmConfig
from ajet.train.packing import Pack
from ajet.train.scoring import PackScorer


class FollowingReference:
    """The weights of a reference, and those of the policy that they follow."""

    def __init__(self, reference: Iterable[Tensor], policy: Iterable[Tensor], algorithm: AlgorithmConfig) -> None:
        """Nothing is taken over yet.

        Args:
            reference: its weights, which are changed in place, in their own number format.
            policy: as many, of the same shapes.
            algorithm: how often, and how much of them; never where `ref_sync_every` is 0.
        """
        self._every, self._alpha = algorithm.ref_sync_every, algorithm.ref_sync_alpha
        self._pairs = list(zip(reference, policy, strict=True)) if self._every else []
        self._has_moved = False

    @torch.no_grad()
    def step_done(self, num_steps: int) -> None:
        """Take over the policy's share where it is time to, after so many training steps of the run."""
        if not self._pairs or num_steps % self._every:
            return
        for reference, policy in self._pairs:
            reference.mul_(1 - self._alpha).add_(policy, alpha=self._alpha)
        self._has_moved = True

    @property
    def num_bytes(self) -> int:
        """What `state_dict` may take."""
        return sum(reference.numel() * reference.element_size() for reference, _ in self._pairs)

    def state_dict(self) -> list[Tensor]:
        """The reference as it is; nothing while it is the starting model, which a resumed run has."""
        return [reference.detach().cpu().clone() for reference, _ in self._pairs] if self._has_moved else []

    @torch.no_grad()
    def load_state_dict(self, saved: Sequence[Tensor]) -> None:
        """Take over what `state_dict` gave; ValueError or RuntimeError where it does not fit."""
        if saved:
            for (reference, _), weight in zip(self._pairs, saved, strict=True):
                reference.copy_(weight)
            self._has_moved = True


class Reference(FollowingReference):
    """What the reference says of packs."""

    def __init__(self, own: PackScorer | None, policy: PackScorer, algorithm: AlgorithmConfig) -> None:
        """The starting model.

        Args:
            own: a reference with weights of its own; None where it is the model beneath the policy's adapters, or
                there is none.
            policy: what is held to it.
            algorithm: as for `FollowingReference`.
        """
        super().__init__(() if own is None else own.model.parameters(), policy.model.parameters(), algorithm)
        self._own, self._policy = own, policy

    @torch.no_grad()
    def logps(self, pack: Pack) -> Tensor:
        """Log-probabilities of a pack's entries."""
        if self._own is not None:
            return self._own.score(pack).logp_E
        with self._policy.model.disable_adapter():
            return self._policy.score(pack).logp_E
