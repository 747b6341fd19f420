"""What components need of the run, beside their own settings: the one place that names it for each of them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from ajet.config.logger import own_logger
from ajet.config.root import Config
from ajet.config.view import user_view
from ajet.data.source import TaskSource
from ajet.engine.base import Engine
from ajet.rollout.judges.base import BaseJudge
from ajet.tracking.files.reading import read_metric_lines
from ajet.tracking.loggers import CompositeLogger, JsonlLogger, MetricLogger


def make_engine(config: Config, model_path: str) -> Engine:
    """The configured engine with the model's weights; loads it."""
    return config.engine.build(
        model_path=model_path,
        max_context=config.model.max_context,
        dtype=config.model.dtype,
        device=config.hardware.device,
        num_threads=config.hardware.sampling_threads,
    )


def make_task_source(config: Config) -> TaskSource:
    """The run's tasks, read and split; raises `ConfigError` with the row of what cannot be read or used."""
    return config.data.build(
        run_seed=config.seed, num_distinct=config.workflow.num_train_tasks, check_task=config.judge.check_task
    )


def make_judge(config: Config) -> BaseJudge | None:
    """The run's judge; None where the workflow has to say its rewards itself."""
    return config.judge.build(run_config=user_view(config), run_dir=Path(config.run_dir))


def make_logger(config: Config, *, resumed_at: int | None) -> MetricLogger:
    """`metrics.jsonl` always, W&B unless disabled, and a logger of the user's behind them: if it raises, they have the
    step."""
    run_dir = Path(config.run_dir)
    path = run_dir / "metrics.jsonl"
    loggers: list[MetricLogger] = [JsonlLogger(path, keep_below_step=resumed_at)]
    earlier = [] if resumed_at is None else read_metric_lines(path)
    wandb = config.logger.wandb.build(run_dir=run_dir, run_config=asdict(config), earlier=earlier)
    if wandb is not None:
        loggers.append(wandb)
    own = own_logger(config.logger)
    if own is not None:
        loggers.append(own.build(run_config=user_view(config), run_dir=run_dir, earlier=earlier))
    return CompositeLogger(loggers)
