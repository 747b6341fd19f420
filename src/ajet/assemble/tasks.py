"""What tasks and their judge need of the run, beside their own settings."""

from __future__ import annotations

from pathlib import Path

from ajet.config.root import Config
from ajet.config.view import author_view
from ajet.data.source import TaskSource
from ajet.rollout.judges.base import BaseJudge


def make_task_source(config: Config) -> TaskSource:
    """The run's tasks, read and split; raises `ConfigError` with the row of what cannot be read or used."""
    return config.data.build(
        run_seed=config.seed, num_distinct=config.workflow.num_train_tasks, check_task=config.judge.check_task
    )


def make_judge(config: Config) -> BaseJudge | None:
    """The run's judge; None where the workflow has to say its rewards itself."""
    return config.judge.build(run_config=author_view(config), run_dir=Path(config.run_dir))
