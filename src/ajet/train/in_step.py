"""What the ranks of an update do alike: whether something holds on all of them, and calls of a model equally often."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from accelerate import Accelerator

from ajet.engine.stepped import torch_threads
from ajet.train.packing import IDLE, Pack


def on_all_ranks(accelerator: Accelerator, holds: bool) -> bool:
    """Whether it holds on every rank."""
    failing = torch.tensor(float(not holds), device=accelerator.device)
    return float(accelerator.reduce(failing, reduction="sum")) == 0


def any_rank_has(accelerator: Accelerator, packs: Sequence[Pack]) -> bool:
    """Whether any rank has something to learn from; Adam's momentum must not move weights on nothing."""
    count = torch.tensor(len(packs), device=accelerator.device)
    return bool(accelerator.reduce(count, reduction="sum") > 0)


def filled_up(accelerator: Accelerator, minibatches: Sequence[Sequence[Pack]]) -> Sequence[Sequence[Pack]]:
    """With packs that teach nothing, so that each minibatch has as many on every rank."""
    counts = torch.tensor([[len(packs) for packs in minibatches]], device=accelerator.device)
    most = accelerator.gather(counts).max(dim=0).values.tolist()
    return [[*packs, *[IDLE] * (num - len(packs))] for packs, num in zip(minibatches, most, strict=True)]


@contextmanager
def training_modes(accelerator: Accelerator, num_threads: int | None) -> Iterator[None]:
    """Torch's threads and modes as training wants them, whatever a workflow in this process has left switched."""
    with (
        torch_threads(num_threads),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(accelerator.device.type, enabled=False),
    ):
        yield
