"""AdamW with its schedules, and a guard: what is not finite moves no weight.

In: gradients, this rank's share of the loss, training steps done. Out: changed weights, or none. Schedules go by
training steps, with or without anything to learn in them, so a rate depends only on how far the run is and how long it
will be; that is also why nothing of them is saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim import AdamW

ADAM_BETAS = (0.9, 0.95)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerSettings:
    """AdamW, and what changes over a run. The schedule's unit is a minibatch, whether or not it held anything."""

    learning_rate: float
    weight_decay: float
    warmup_steps: int
    """Minibatches over which the rate rises linearly."""
    decay_steps: int | None
    """Minibatches at whose end the rate reaches 0, warm-up included; None keeps it constant."""
    max_grad_norm: float
    kl_decay_steps: int | None = None
    """Minibatches at whose end the KL penalty's weight reaches 0; None keeps it constant."""


def kl_factor(step: int, settings: OptimizerSettings) -> float:
    """The KL penalty's weight at minibatch `step` (from 0, of the whole run) as a share of the configured one."""
    return 1.0 if settings.kl_decay_steps is None else max(0.0, 1 - step / settings.kl_decay_steps)


def rate_factor(step: int, settings: OptimizerSettings) -> float:
    """The learning rate of minibatch `step` (from 0, of the whole run) as a share of its peak."""
    if step < settings.warmup_steps:
        return (step + 1) / (settings.warmup_steps + 1)
    if settings.decay_steps is None:
        return 1.0
    left = settings.decay_steps - step
    return max(0.0, left / max(1, settings.decay_steps - settings.warmup_steps))


class GuardedOptimizer:
    """Steps on finite gradients of finite losses only; all ranks decide alike."""

    def __init__(self, trained: Sequence[torch.nn.Parameter], settings: OptimizerSettings, accelerator: Accelerator):
        """`trained`: the parameters to change, the same on every rank."""
        self._trained = trained
        self._settings = settings
        self._accelerator = accelerator
        adam = AdamW(trained, lr=settings.learning_rate, betas=ADAM_BETAS, weight_decay=settings.weight_decay)
        self._adam: Any = accelerator.prepare(adam)

    def rate(self, step: int) -> float:
        """The learning rate of minibatch `step`, from 0, of the whole run."""
        return self._settings.learning_rate * rate_factor(step, self._settings)

    def step(self, step: int, loss: Tensor) -> float | None:
        """Add gradients up over ranks, clip them and take a step; gradients are cleared in any case.

        Args:
            step: the minibatch's place in the whole run, from 0.
            loss: this rank's share of the loss that was differentiated.

        Returns:
            The gradient's norm before clipping, or None where it or any rank's loss was not finite: then weights and
            Adam's moments are as they were.
        """
        for parameter in self._trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        if self._accelerator.num_processes > 1:
            for parameter in self._trained:
                parameter.grad = self._accelerator.reduce(parameter.grad, reduction="sum")
        # The norm is a root of a sum of squares: where it is finite, so are the squares that Adam keeps.
        norm = self._accelerator.clip_grad_norm_(self._trained, self._settings.max_grad_norm)
        sound = self._on_all_ranks(bool(torch.isfinite(norm) and torch.isfinite(loss)))
        if sound:
            for group in self._adam.param_groups:
                group["lr"] = self.rate(step)
            self._adam.step()
        self._adam.zero_grad()
        return float(norm) if sound else None

    def _on_all_ranks(self, holds: bool) -> bool:
        failing = torch.tensor(float(not holds), device=self._accelerator.device)
        return float(self._accelerator.reduce(failing, reduction="sum")) == 0

    def state_dict(self) -> dict[str, Any]:
        """Adam's moments; they are all that a resumed run needs."""
        state: dict[str, Any] = self._adam.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self._adam.load_state_dict(state)
