"""What a run asks of its tasks, wherever they come from."""

from __future__ import annotations

from typing import Protocol

from ajet.records import Task


class TaskSource(Protocol):
    """Training and held-out tasks; the two never overlap."""

    def train_tasks(self, step: int, num_tasks: int) -> list[Task]:
        """The tasks of one step (from 0), all different: a function of run seed and step alone."""
        ...

    def held_out_tasks(self, num_tasks: int, *, offset: int = 0) -> list[Task]:
        """The evaluation's tasks: the same for every run seed.

        Raises:
            ConfigError: there are not as many.
        """
        ...
