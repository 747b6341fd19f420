"""What components need of the run, beside their own settings: the one place that names it for each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from ajet.config.logger import own_logger
from ajet.config.root import Config
from ajet.config.view import user_view
from ajet.data.source import TaskSource
from ajet.engine.base import Adapters, Engine, EngineNeeds
from ajet.rollout.judges.base import BaseJudge
from ajet.tracking.files.reading import read_metric_lines
from ajet.tracking.loggers import CompositeLogger, JsonlLogger, MetricLogger
from ajet.tracking.sane_ranges import RangeWatch

METRICS = "metrics.jsonl"


def make_engine(config: Config, model_path: str, adapters: Adapters | None = None) -> Engine:
    """The configured engine with the model's weights; loads it. Updates bring adapters, or whole weights."""
    needs = EngineNeeds(
        model_path=model_path,
        max_context=config.model.max_context,
        dtype=config.model.dtype,
        device=config.hardware.device,
        num_threads=config.hardware.sampling_threads,
        adapters=adapters,
        grammars=config.rollout.grammar == "tools",
    )
    return config.engine.build(needs)


def make_task_source(config: Config) -> TaskSource:
    """The run's tasks, read and split; raises `ConfigError` with the row of what cannot be read or used."""
    return config.data.build(
        run_seed=config.seed, num_distinct=config.workflow.num_train_tasks, check_task=config.judge.check_task
    )


def make_judge(config: Config) -> BaseJudge | None:
    """The run's judge; None where the workflow has to say its rewards itself."""
    return config.judge.build(run_config=user_view(config), run_dir=Path(config.run_dir))


def make_logger(config: Config, *, resumed_at: int | None, tell: Callable[[str], None]) -> MetricLogger:
    """`metrics.jsonl` always, W&B unless disabled, and the console where a metric leaves its sane range.

    Args:
        config: the run's.
        resumed_at: the steps done of a run that is resumed; None: it is new.
        tell: writes a line to the console.
    """
    run_dir = Path(config.run_dir)
    loggers: list[MetricLogger] = [JsonlLogger(run_dir / METRICS, keep_below_step=resumed_at)]
    earlier = _earlier(run_dir, resumed_at)
    wandb = config.logger.wandb.build(run_dir=run_dir, run_config=asdict(config), earlier=earlier)
    if wandb is not None:
        loggers.append(wandb)
    return CompositeLogger([*loggers, RangeWatch(tell, earlier)])


def make_own_logger(config: Config, *, resumed_at: int | None) -> MetricLogger | None:
    """The user's logger, if there is one.

    Args:
        config: the run's.
        resumed_at: as for `make_logger`.

    Raises:
        ConfigError: what its `__init__` raised.
    """
    own, run_dir = own_logger(config.logger), Path(config.run_dir)
    if own is None:
        return None
    return own.build(run_config=user_view(config), run_dir=run_dir, earlier=_earlier(run_dir, resumed_at))


def _earlier(run_dir: Path, resumed_at: int | None) -> list[dict[str, float]]:
    """The lines of `metrics.jsonl` that a run starts from."""
    lines = [] if resumed_at is None else read_metric_lines(run_dir / METRICS)
    return [line for line in lines if resumed_at is not None and line["step"] < resumed_at]
