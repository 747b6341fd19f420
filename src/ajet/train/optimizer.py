"""AdamW with its schedules, and a guard: what is not finite moves no weight.

In: gradients, this rank's share of the loss, training steps done. Out: changed weights, or none. Schedules go by
training steps, with or without anything to learn in them, so a rate depends only on how far the run is and how long it
will be; that is also why nothing of them is saved.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import AdamW

from ajet.config.algorithm import AlgorithmConfig
from ajet.train.in_step import on_all_ranks
from ajet.train.sharding import is_sharded, kept_whole, shared_out_as, whole

ADAM_BETAS = (0.9, 0.95)
"""Second moments average over some 20 steps, not over 0.999's 1,000, which is longer than most runs."""


def kl_coef_of_loss(step: int, algorithm: AlgorithmConfig, total_steps: int) -> float:
    """The weight of a KL penalty in the loss at optimizer step `step`; 0 where it is in the reward."""
    return algorithm.kl_coef * kl_factor(step, algorithm, total_steps) if algorithm.kl_in_loss else 0.0


def kl_factor(step: int, algorithm: AlgorithmConfig, total_steps: int) -> float:
    """The KL penalty's weight at optimizer step `step` (from 0, of the whole run) as a share of `kl_coef`.

    The unit of both schedules is a minibatch of an epoch, whether or not it held anything.
    """
    if algorithm.kl_schedule == "constant":
        return 1.0
    return max(0.0, 1 - step / (total_steps * algorithm.num_updates))


def rate_factor(step: int, algorithm: AlgorithmConfig, total_steps: int) -> float:
    """The learning rate of optimizer step `step` (from 0, of the whole run) as a share of its peak."""
    warmup = algorithm.warmup_steps * algorithm.num_updates
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if algorithm.lr_schedule == "constant":
        return 1.0
    end = total_steps * algorithm.num_updates
    return max(0.0, (end - step) / max(1, end - warmup))


class GuardedOptimizer:
    """Steps on finite gradients of finite losses only; all ranks decide alike."""

    def __init__(
        self,
        trained: Sequence[nn.Parameter],
        algorithm: AlgorithmConfig,
        accelerator: Accelerator,
        *,
        total_steps: int,
        offloaded: bool = False,
        num_apart: int = 0,
        rate_apart: float = 0.0,
    ) -> None:
        """Adam's moments are zero.

        Args:
            trained: the parameters to change, the same on every rank.
            algorithm: rate, schedules, weight decay, the norm that gradients are clipped to.
            accelerator: device and ranks.
            total_steps: training steps of the run.
            offloaded: whether moments are kept, and steps computed, in the CPU's memory; not with parameters that are
                shared out.
            num_apart: how many of them, the last ones, have a peak rate of their own.
            rate_apart: that rate.
        """
        self._trained = trained
        self._peaks = [algorithm.learning_rate, rate_apart]
        self._on_cpu = [nn.Parameter(torch.empty_like(p, device="cpu")) for p in trained] if offloaded else None
        self._algorithm = algorithm
        self._accelerator = accelerator
        self._total_steps = total_steps
        moved = list(trained) if self._on_cpu is None else self._on_cpu
        first_apart = len(moved) - num_apart
        adam = AdamW(
            [{"params": some} for some in (moved[:first_apart], moved[first_apart:]) if some],
            lr=algorithm.learning_rate,
            betas=ADAM_BETAS,
            weight_decay=algorithm.weight_decay,
            fused=True if offloaded or accelerator.device.type == "cuda" else None,  # one kernel for all weights
        )
        # Accelerate would move what is offloaded to the device.
        self._adam: Any = accelerator.prepare_optimizer(adam, device_placement=not offloaded)

    def rate(self, step: int) -> float:
        """The learning rate of optimizer step `step`, from 0, of the whole run."""
        return self._algorithm.learning_rate * rate_factor(step, self._algorithm, self._total_steps)

    def step(self, step: int, loss: Tensor) -> float | None:
        """Add gradients up over ranks, clip them and take a step; gradients are cleared in any case.

        Args:
            step: the place in the whole run, from 0, of the minibatch in its epoch.
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
                if not is_sharded(parameter):  # else each rank has its share of the sum already
                    parameter.grad = self._accelerator.reduce(parameter.grad, reduction="sum")
        # The norm is a root of a sum of squares: where it is finite, so are the squares that Adam keeps.
        norm = whole(self._accelerator.clip_grad_norm_(self._trained, self._algorithm.max_grad_norm))
        sound = on_all_ranks(self._accelerator, bool(torch.isfinite(norm) and torch.isfinite(loss)))
        if sound:
            factor = rate_factor(step, self._algorithm, self._total_steps)
            for group, peak in zip(self._adam.param_groups, self._peaks, strict=False):
                group["lr"] = peak * factor
            with self._moved():
                self._adam.step()
        for parameter in self._trained:
            parameter.grad = None
        return float(norm) if sound else None

    @contextmanager
    def _moved(self) -> Iterator[None]:
        """Around Adam's step: weights and gradients where it is computed, and afterwards new weights back."""
        if self._on_cpu is None:
            yield
            return
        with torch.no_grad():
            for here, parameter in zip(self._on_cpu, self._trained, strict=True):
                here.copy_(parameter)
                assert parameter.grad is not None
                here.grad = parameter.grad.cpu()
        yield
        with torch.no_grad():
            for here, parameter in zip(self._on_cpu, self._trained, strict=True):
                parameter.copy_(here)
                here.grad = None

    def state_dict(self, *, kept: bool = True) -> dict[str, Any]:
        """Adam's moments, whole; they are all that a resumed run needs. With `kept` false nothing of them is kept
        here: this process only helps others to gather what is shared out."""
        state: dict[str, Any] = self._adam.state_dict()
        moments = {i: kept_whole(iter(of_parameter.items()), kept=kept) for i, of_parameter in state["state"].items()}
        return state | {"state": moments}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        moments = {
            i: {
                name: shared_out_as(value, self._trained[i]) if value.shape == self._trained[i].shape else value
                for name, value in of_parameter.items()
            }
            for i, of_parameter in state["state"].items()
        }
        self._adam.load_state_dict(state | {"state": moments})
