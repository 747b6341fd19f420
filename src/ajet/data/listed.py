"""A finite list of tasks as a source: a fixed held-out part, and an order that run seed and step alone decide."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from ajet.data.content import content_key
from ajet.data.randomness import derive_seed
from ajet.errors import ConfigError
from ajet.records import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadTasks:
    """Tasks and where each of them stands, for errors."""

    tasks: Sequence[Task]
    places: Sequence[str]


def hold_out(
    tasks: Sequence[Task], fraction: float, names: Sequence[str] | None = None
) -> tuple[list[Task], list[Task]]:
    """(training, held out): a part of the distinct contents, chosen by their digests.

    Neither the order of the tasks nor a run's seed changes which they are, and tasks of one content stay together.

    Args:
        tasks: all there are.
        fraction: of the distinct contents; at least one is held out and one kept.
        names: what makes a content; see `content_key`.

    Raises:
        ConfigError: they are all of one content.
    """
    keys = [content_key(task, names) for task in tasks]
    contents = sorted(set(keys))
    if len(contents) < 2:
        raise ConfigError(
            f"data: {len(tasks)} tasks that all ask the same cannot be split into training and held-out ones: say what "
            "tells them apart (data.content=[...]), or give data.held_out_path"
        )
    num = min(max(round(fraction * len(contents)), 1), len(contents) - 1)
    chosen = set(contents[:num])
    train = [task for task, key in zip(tasks, keys, strict=True) if key not in chosen]
    return train, [task for task, key in zip(tasks, keys, strict=True) if key in chosen]


def check_apart(train: ReadTasks, held_out: ReadTasks, names: Sequence[str] | None = None) -> None:
    """Refuse splits that share a task; `names` as for `hold_out`.

    Raises:
        ConfigError: which tasks are the same, and where they stand.
    """
    seen = {content_key(task, names): place for task, place in zip(train.tasks, train.places, strict=True)}
    for task, place in zip(held_out.tasks, held_out.places, strict=True):
        twin = seen.get(content_key(task, names))
        if twin is not None:
            raise ConfigError(
                f"data: the held-out task at {place} asks what the training task at {twin} asks, and what is measured "
                "must not be trained on: remove one of the two, or say what tells them apart (data.content=[...])"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedTasks:
    """Tasks that were read. Where the order is shuffled, an epoch is as many whole steps as there are tasks for."""

    train: Sequence[Task]
    held_out: Sequence[Task]
    run_seed: int
    shuffle: bool

    def train_tasks(self, step: int, num_tasks: int) -> list[Task]:
        """See `TaskSource`. What an epoch leaves over begins the next one; shuffled, it comes up in others.

        Raises:
            ConfigError: fewer tasks than a step takes.
        """
        steps_per_epoch = len(self.train) // num_tasks
        if not steps_per_epoch:
            raise ConfigError(
                f"{num_tasks} tasks were asked for and there are {len(self.train)} to train on: choose a smaller "
                "rollout.num_tasks, or num_episodes where they are only played"
            )
        if not self.shuffle:
            return [self.train[(step * num_tasks + i) % len(self.train)] for i in range(num_tasks)]
        epoch, place = divmod(step, steps_per_epoch)
        order = list(range(len(self.train)))
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
