"""What a run asks of its tasks, wherever they come from, and what the readers' configurations share.

A reader is a subclass of `DataConfig` with its settings, which builds a `TaskSource`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

from ajet.config.fields import needed
from ajet.records import Task

TaskCheck = Callable[[Task, str], None]
"""(task, where it stands) -> raises `ConfigError` if the run could not use it."""


@dataclass
class DataConfig:
    """The data group. The chosen reader's subclass has its own settings."""

    reader: str = needed()
    """The reader's name, e.g. `jsonl`: what `data=` chooses."""

    has_answers: ClassVar[bool] = True
    """Whether its tasks can hold a right answer."""
    needs_extras: ClassVar[tuple[str, ...]] = ()
    """Extras of the installation, of which it needs one (`ajet.errors.EXTRAS`)."""

    def build(self, *, run_seed: int, num_distinct: int | None, check_task: TaskCheck) -> TaskSource:
        """The run's tasks, read and split before anything heavy loads.

        Args:
            run_seed: what the order depends on.
            num_distinct: training tasks before they repeat, for tasks that are made; None for no limit.
            check_task: asked about each task, for the run must not find out at its thousandth that it cannot be used.

        Raises:
            ConfigError: what cannot be read or used, with its row.
        """
        raise NotImplementedError

    def check(self, *, num_train_tasks: int | None) -> None:
        """Refuse settings that cannot work, and sources that are not there.

        Args:
            num_train_tasks: `workflow.num_train_tasks`.

        Raises:
            ConfigError: what to change.
        """


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
