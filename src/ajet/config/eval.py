"""Play on held-out seeds, the same ones before and after, with intervals."""

from __future__ import annotations

from dataclasses import dataclass

from ajet.config.fields import ruled


@dataclass
class EvalConfig:
    """Held-out play around and during training: when, on how many tasks, with which coverage of intervals."""

    every: int = ruled(0, at_least=0)
    """Evaluate after every n-th step; 0: only first and last."""
    num_tasks: int = ruled(64, at_least=2)
    """Held-out tasks; an interval needs at least two."""
    first: bool = True
    """Evaluate before the first step."""
    last: bool = True
    """Evaluate after the last step."""
    seed_offset: int = ruled(1_000_000, at_least=1)
    """Held-out tasks are taken from this number on; another one gives other tasks."""
    repeats: int = ruled(1, at_least=1)
    """Episodes of each held-out task."""
    confidence: float = ruled(0.95, above=0, below=1)
    """Coverage of the intervals."""
