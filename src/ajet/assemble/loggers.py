"""What loggers need of the run, beside their own settings."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from ajet.config.root import Config
from ajet.tracking.files.reading import read_metric_lines
from ajet.tracking.loggers import CompositeLogger, JsonlLogger, MetricLogger


def make_logger(config: Config, *, resumed_at: int | None) -> MetricLogger:
    """`metrics.jsonl` always, W&B unless disabled."""
    run_dir = Path(config.run_dir)
    path = run_dir / "metrics.jsonl"
    loggers: list[MetricLogger] = [JsonlLogger(path, keep_below_step=resumed_at)]
    earlier = [] if resumed_at is None else read_metric_lines(path)
    wandb = config.logger.wandb.build(run_dir=run_dir, run_config=asdict(config), earlier=earlier)
    return CompositeLogger(loggers if wandb is None else [*loggers, wandb])
