"""A finite list of tasks as a source: a fixed held-out part, and an order that run seed and step alone decide.

`ListConfig` is what readers of such lists share, `PathConfig` what those share whose lists lie somewhere.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from typing_extensions import override

from ajet.config.component import construct
from ajet.config.fields import needed, place, ruled
from ajet.config.user_code.running import running_user_code
from ajet.data.content import content_key
from ajet.data.randomness import derive_seed
from ajet.data.rows import TaskRow, checked_rows, rows_of
from ajet.data.source import DataConfig, TaskCheck
from ajet.data.tasks import make_tasks
from ajet.errors import ConfigError
from ajet.records import Task

DEFAULT_FRACTION = 0.1
"""`data.held_out_fraction` where it is null."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadTasks:
    """Tasks and where each of them stands, for errors."""

    tasks: Sequence[Task]
    places: Sequence[str]


@dataclass
class ListConfig(DataConfig):
    """What readers share whose tasks are a list."""

    fields: dict[str, str] = field(default_factory=dict)
    """Column by task field (task_id, main_query, init_messages, env_type) where their names differ, e.g.
    {main_query: question}. Every other column becomes metadata under its own name, and so does a column that is a field
    here, the id's excepted."""
    content: list[str] | None = None
    """What makes two tasks the same, for keeping held-out ones apart: task fields or metadata, e.g. [main_query,
    choices]; null: the question (main_query, init_messages), or everything where tasks have none."""
    held_out_fraction: float | None = ruled(None, above=0, below=1)
    """How much is held out where nothing else says so; null: a tenth. Which tasks are depends on content alone."""
    shuffle: bool = True
    """Draw a new order each epoch; otherwise the file's."""

    component: ClassVar[Any] = None
    """The reader's class where a user wrote it (docs/extend/data.md)."""

    @override
    def build(self, *, run_seed: int, num_distinct: int | None, check_task: TaskCheck) -> ListedTasks:
        read = self._read(check_task, held_out=False)
        if self.holds_out_a_part():
            train, held_out = hold_out(read.tasks, self.held_out_fraction or DEFAULT_FRACTION, self.content)
            return ListedTasks(train=train, held_out=held_out, run_seed=run_seed, shuffle=self.shuffle)
        apart = self._read(check_task, held_out=True)
        check_apart(read, apart, self.content)
        return ListedTasks(train=read.tasks, held_out=apart.tasks, run_seed=run_seed, shuffle=self.shuffle)

    def holds_out_a_part(self) -> bool:
        """Whether held-out tasks are a part of the training ones."""
        return not callable(getattr(self.component, "held_out", None))

    def read_rows(self, *, held_out: bool = False) -> Sequence[TaskRow]:
        """The rows of the training or the held-out tasks: here, what a user's class gives.

        Raises:
            ConfigError: there are none, or some cannot be tasks.
        """
        setting = f"data={self.reader}"
        reader = construct(self, setting)
        with running_user_code(setting):
            return rows_of(reader.held_out() if held_out else reader.train(), self.reader, setting)

    @override
    def check(self, *, num_train_tasks: int | None) -> None:
        if num_train_tasks is not None:
            raise ConfigError(f"workflow.num_train_tasks has no effect with data={self.reader}: set it to null")

    def _read(self, check_task: TaskCheck, *, held_out: bool) -> ReadTasks:
        """The tasks, each with all that the run will ask of it."""
        rows = self.read_rows(held_out=held_out)
        tasks = make_tasks(rows, self.fields)
        for row, task in zip(rows, tasks, strict=True):
            content_key(task, self.content, place=row.place)
            check_task(task, row.place)
        return ReadTasks(tasks=tasks, places=[row.place for row in rows])


@dataclass
class PathConfig(ListConfig):
    """What readers share whose tasks lie at a path."""

    path: str = needed()
    """The training tasks."""
    held_out_path: str | None = place()
    """The held-out tasks, likewise; null: a part of the training tasks is held out."""

    def rows(self, path: str, *, held_out: bool, setting: str) -> Sequence[TaskRow]:
        """The rows at a path, unchecked.

        Args:
            path: `path` or `held_out_path`.
            held_out: whether the held-out ones are meant, where a path has both.
            setting: what names the path, for errors.

        Raises:
            ConfigError: they cannot be read.
        """
        raise NotImplementedError

    @override
    def holds_out_a_part(self) -> bool:
        return self.held_out_path is None

    @override
    def read_rows(self, *, held_out: bool = False) -> Sequence[TaskRow]:
        is_apart = held_out and self.held_out_path is not None
        path, setting = (self.held_out_path, "data.held_out_path") if is_apart else (self.path, "data.path")
        assert path is not None
        return checked_rows(self.rows(path, held_out=held_out, setting=setting), f"{setting}={path}")

    @override
    def check(self, *, num_train_tasks: int | None) -> None:
        super().check(num_train_tasks=num_train_tasks)
        if self.held_out_path is not None and self.held_out_fraction is not None:
            raise ConfigError("data.held_out_fraction has no effect with data.held_out_path: set one of them")


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
    seen = {content_key(task, names): where for task, where in zip(train.tasks, train.places, strict=True)}
    for task, where in zip(held_out.tasks, held_out.places, strict=True):
        twin = seen.get(content_key(task, names))
        if twin is not None:
            raise ConfigError(
                f"data: the held-out task at {where} asks what the training task at {twin} asks, and what is measured "
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
                "rollout.num_tasks or rollout.max_resamples, or num_episodes where they are only played"
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
