"""The config's data group -> a source of tasks, read and split before anything heavy loads."""

from __future__ import annotations

from ajet.config.data import resolve_data_path
from ajet.config.judge import COMPARING_JUDGES, JudgeConfig
from ajet.config.root import Config
from ajet.data.content import content_key
from ajet.data.listed import ListedTasks, ReadTasks, check_apart, hold_out
from ajet.data.rows import read_rows
from ajet.data.seeds import SeedTasks
from ajet.data.source import TaskSource
from ajet.data.tasks import make_tasks
from ajet.errors import ConfigError
from ajet.records import Task

DEFAULT_FRACTION = 0.1
"""`data.held_out_fraction` where it is null."""


def make_task_source(config: Config) -> TaskSource:
    """The run's tasks.

    Raises:
        ConfigError: what cannot be read or used, with its row.
    """
    data = config.data
    if data.reader == "seeds":
        return SeedTasks(run_seed=config.seed, num_distinct=config.workflow.num_train_tasks)
    assert data.path is not None
    read = _read(config, "path", data.path, data.split)
    if data.held_out_path is None and data.held_out_split is None:
        train, held_out = hold_out(read.tasks, data.held_out_fraction or DEFAULT_FRACTION, data.content)
        return ListedTasks(train=train, held_out=held_out, run_seed=config.seed, shuffle=data.shuffle)
    split = data.held_out_split or data.split
    if data.held_out_path is None:
        apart = _read(config, "path", data.path, split)
    else:
        apart = _read(config, "held_out_path", data.held_out_path, split)
    check_apart(read, apart, data.content)
    return ListedTasks(train=read.tasks, held_out=apart.tasks, run_seed=config.seed, shuffle=data.shuffle)


def _read(config: Config, name: str, path: str, split: str | None) -> ReadTasks:
    """The tasks, each with all that the run will ask of it: it must not find out at its thousandth that one has not."""
    data = config.data
    rows = read_rows(data.reader, resolve_data_path(path), subset=data.subset, split=split, setting=f"data.{name}")
    tasks = make_tasks(rows, data.fields)
    for row, task in zip(rows, tasks, strict=True):
        content_key(task, data.content, place=row.place)
        _check_reference(config.judge, task, row.place)
    return ReadTasks(tasks=tasks, places=[row.place for row in rows])


def _check_reference(judge: JudgeConfig, task: Task, place: str) -> None:
    if judge.name not in COMPARING_JUDGES:
        return
    value = task.metadata.get(judge.reference)
    if value is None or not str(value).strip():
        raise ConfigError(
            f"{place}: judge={judge.name} needs metadata[{judge.reference!r}] (judge.reference); "
            f"it has {', '.join(name for name, known in task.metadata.items() if known is not None) or 'nothing'}"
        )
