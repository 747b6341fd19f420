"""The config's data group -> a source of tasks, read and split before anything heavy loads."""

from __future__ import annotations

from ajet.config.root import Config
from ajet.data.listed import ListedTasks, check_apart, hold_out
from ajet.data.rows import read_rows
from ajet.data.seeds import SeedTasks
from ajet.data.source import TaskSource
from ajet.data.tasks import make_tasks
from ajet.records import Task


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
        train, held_out = hold_out(train, data.held_out_fraction)
    else:
        held_out = _read(config, data.held_out_path or data.path, data.held_out_split or data.split)
        check_apart(train, held_out)
    return ListedTasks(train=train, held_out=held_out, run_seed=config.seed, shuffle=data.shuffle)


def _read(config: Config, path: str, split: str) -> list[Task]:
    data = config.data
    return make_tasks(read_rows(data.reader, path, subset=data.subset, split=split), data.fields)
