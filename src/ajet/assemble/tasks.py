"""The config's data group -> a source of tasks, read and split before anything heavy loads."""

from __future__ import annotations

from collections.abc import Sequence

from ajet.config.data import resolve_data_path
from ajet.config.judge import COMPARING_JUDGES, JudgeConfig
from ajet.config.root import Config
from ajet.data.listed import ListedTasks, check_apart, hold_out
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
    train = _read(config, data.path, data.split)
    if data.held_out_path is None and data.held_out_split is None:
        train, held_out = hold_out(train, data.held_out_fraction or DEFAULT_FRACTION, data.content)
    else:
        held_out = _read(config, data.held_out_path or data.path, data.held_out_split or data.split)
        check_apart(train, held_out, data.content)
    _check_references(config.judge, [*train, *held_out])
    return ListedTasks(train=train, held_out=held_out, run_seed=config.seed, shuffle=data.shuffle)


def _read(config: Config, path: str, split: str | None) -> list[Task]:
    data = config.data
    rows = read_rows(data.reader, resolve_data_path(path), subset=data.subset, split=split)
    return make_tasks(rows, data.fields)


def _check_references(judge: JudgeConfig, tasks: Sequence[Task]) -> None:
    """Every task has what its judge compares with: a run must not find out at its thousandth task that one has not."""
    if judge.name not in COMPARING_JUDGES:
        return
    for task in tasks:
        value = task.metadata.get(judge.reference)
        if value is None or not str(value).strip():
            raise ConfigError(
                f"task {task.task_id}: judge={judge.name} needs metadata[{judge.reference!r}] (judge.reference); "
                f"it has {', '.join(name for name, known in task.metadata.items() if known is not None) or 'nothing'}"
            )
