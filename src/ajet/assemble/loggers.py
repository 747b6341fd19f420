"""What loggers need of the run, beside their own settings."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from ajet.config.logger import own_logger
from ajet.config.root import Config
from ajet.config.view import author_view
from ajet.tracking.files.reading import read_metric_lines
from ajet.tracking.loggers import CompositeLogger, JsonlLogger, MetricLogger


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
        loggers.append(own.build(run_config=author_view(config), run_dir=run_dir, earlier=earlier))
    return CompositeLogger(loggers)
