"""Tasks that are nothing but a seed: what a seeded game starts from.

Train and held-out seeds never meet: they are drawn from two halves of the number range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from ajet.config.fields import named
from ajet.data.randomness import derive_seed
from ajet.data.source import DataConfig, TaskCheck
from ajet.records import Task

_HALF = 2**30
"""Held-out seeds lie in [0, 2**30), training seeds in [2**30, 2**31): numpy's legacy seeds fit, too."""


@dataclass
class SeedsConfig(DataConfig):
    """Endless tasks that are a number each."""

    reader: str = named("seeds")

    has_answers: ClassVar[bool] = False

    @override
    def build(self, *, run_seed: int, num_distinct: int | None, check_task: TaskCheck) -> SeedTasks:
        """Numbers are not checked."""
        return SeedTasks(run_seed=run_seed, num_distinct=num_distinct)


class SeedTasks:
    """An endless, reproducible supply of seeds; the order depends on the run's seed alone."""

    def __init__(self, *, run_seed: int, num_distinct: int | None = None) -> None:
        """`num_distinct` limits training to so many tasks, repeated in order; None never repeats one."""
        self._run_seed = run_seed
        self._num_distinct = num_distinct

    def train_tasks(self, step: int, num_tasks: int) -> list[Task]:
        """The tasks of one step (from 0): a function of run seed and step, so that a resumed run draws the same."""
        return [self._train_task(step * num_tasks + i) for i in range(num_tasks)]

    def held_out_tasks(self, num_tasks: int, *, offset: int = 0) -> list[Task]:
        """The evaluation's tasks: the same for every run seed, so that runs can be compared."""
        return [_task("eval", offset + i, offset + i) for i in range(num_tasks)]

    def _train_task(self, index: int) -> Task:
        if self._num_distinct is not None:
            index %= self._num_distinct
        return _task("train", index, _HALF + derive_seed("train-task", self._run_seed, index) % _HALF)


def _task(split: str, index: int, random_number: int) -> Task:
    return Task(task_id=f"{split}-{index}", env_type="seeds", metadata={"random_number": random_number})
