"""The machine: device, threads, number format of the arithmetic. One process; several are not supported yet."""

from __future__ import annotations

from dataclasses import dataclass

from ajet.config.fields import one_of, ruled


@dataclass
class HardwareConfig:
    """The hardware group."""

    device: str = one_of("cpu", "cpu", "cuda")
    """Where sampling and training run."""
    sampling_threads: int | None = ruled(None, at_least=1)
    """CPU threads while sampling; null: every core."""
    training_threads: int | None = ruled(None, at_least=1)
    """CPU threads while training; null: every core."""
    mixed_precision: str = one_of("no", "no", "bf16")
    """Accelerate's mixed precision in training."""
