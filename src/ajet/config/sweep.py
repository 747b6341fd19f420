"""How the jobs of a sweep (`-m`) are chosen and handed out. A single run reads none of it."""

from __future__ import annotations

from dataclasses import dataclass

from ajet.config.fields import one_of, ruled

SUBSET_KINDS = ("each", "leave_one_out", "powerset")
"""Kinds of sweep that expand `trainable_targets` into several choices."""


@dataclass
class SweepConfig:
    """Which jobs a command with `-m` stands for."""

    kind: str = one_of("grid", "grid", *SUBSET_KINDS, "optuna")
    """`grid`: every combination of the listed values; `each`, `leave_one_out`, `powerset`: the same, with
    `trainable_targets` standing for several choices; `optuna`: a search that chooses values as it goes."""
    batch_size: int | None = ruled(None, at_least=1)
    """Jobs handed to the launcher at a time; the next batch waits for all of them. Null: all at once."""
