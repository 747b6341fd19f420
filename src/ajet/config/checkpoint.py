"""When the run's state is saved, and how much of it stays."""

from __future__ import annotations

from dataclasses import dataclass

from ajet.config.fields import ruled


@dataclass
class CheckpointConfig:
    """How often the state is saved, and how many of the newest checkpoints stay."""

    every: int = ruled(10, at_least=0)
    """Save after every n-th step; 0: only after the last and on Ctrl-C."""
    keep: int = ruled(2, at_least=1)
    """Checkpoints kept, newest first."""
