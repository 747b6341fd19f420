"""A finite list of tasks as a source: a fixed held-out part, and an order that run seed and step alone decide."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from ajet.data.tasks import content_key
from ajet.errors import ConfigError
from ajet.randomness import derive_seed
from ajet.records import Task


def hold_out(tasks: Sequence[Task], fraction: float) -> tuple[list[Task], list[Task]]:
    """(training, held out): a part of the distinct contents, chosen by their digests.

    Neither the order of the tasks nor a run's seed changes which they are, and tasks of one content stay together.

    Raises:
        ConfigError: too few distinct tasks to hold one out and keep one.
    """
    contents = sorted({content_key(task) for task in tasks})
    if len(contents) < 2:
        raise ConfigError("data: one task cannot be split into training and held-out ones: give data.held_out_path")
    num = min(max(round(fraction * len(contents)), 1), len(contents) - 1)
    chosen = set(contents[:num])
    train = [task for task in tasks if content_key(task) not in chosen]
    return train, [task for task in tasks if content_key(task) in chosen]


def check_apart(train: Sequence[Task], held_out: Sequence[Task]) -> None:
    """Refuse splits that share a task.

    Raises:
        ConfigError: which tasks are the same.
    """
    seen = {content_key(task): task.task_id for task in train}
    for task in held_out:
        if content_key(task) in seen:
            raise ConfigError(
                f"data: held-out task {task.task_id} has the content of training task {seen[content_key(task)]}: "
                "what is measured must not be trained on; remove one of the two"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedTasks:
    """Tasks that were read. An epoch is as many whole steps as there are tasks for."""

    train: Sequence[Task]
    held_out: Sequence[Task]
    run_seed: int
    shuffle: bool

    def train_tasks(self, step: int, num_tasks: int) -> list[Task]:
        """See `TaskSource`. What an epoch leaves over comes up in others, where the order is shuffled.

        Raises:
            ConfigError: fewer tasks than a step takes.
        """
        steps_per_epoch = len(self.train) // num_tasks
        if not steps_per_epoch:
            raise ConfigError(
                f"{num_tasks} tasks were asked for and there are {len(self.train)} to train on: choose a smaller "
                "rollout.num_tasks"
            )
        epoch, place = divmod(step, steps_per_epoch)
        order = list(range(len(self.train)))
        if self.shuffle:
            random.Random(derive_seed("task-order", self.run_seed, epoch)).shuffle(order)
        return [self.train[i] for i in order[place * num_tasks : (place + 1) * num_tasks]]

    def held_out_tasks(self, num_tasks: int, *, offset: int = 0) -> list[Task]:
        """See `TaskSource`. `offset` is where to start; after the last task the first follows."""
        if num_tasks > len(self.held_out):
            raise ConfigError(
                f"eval.num_tasks={num_tasks} is more than the {len(self.held_out)} tasks that are held out: choose "
                "fewer, hold out more (data.held_out_fraction), or eval=none"
            )
        return [self.held_out[(offset + i) % len(self.held_out)] for i in range(num_tasks)]
