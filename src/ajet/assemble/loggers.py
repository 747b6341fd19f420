"""The config's logger group -> where metrics go."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

from ajet.config.logger import off_by_environment, wandb_mode
from ajet.config.root import Config
from ajet.tracking.files.reading import read_metric_lines
from ajet.tracking.loggers import CompositeLogger, JsonlLogger, MetricLogger
from ajet.tracking.weights_and_biases import WandbLogger


def make_logger(config: Config, *, resumed_at: int | None) -> MetricLogger:
    """`metrics.jsonl` always, W&B unless disabled."""
    run_dir = Path(config.run_dir)
    path = run_dir / "metrics.jsonl"
    loggers: list[MetricLogger] = [JsonlLogger(path, keep_below_step=resumed_at)]
    wandb = config.logger.wandb
    mode = wandb_mode(wandb)
    note = off_by_environment(wandb)
    if note is not None:
        print(f"note: {note}", file=sys.stderr, flush=True)
    if mode != "disabled":
        loggers.append(
            WandbLogger(
                run_dir=run_dir,
                mode=mode,
                project=wandb.project,
                name=wandb.name,
                group=wandb.group,
                config=asdict(config),
                num_sample_games=wandb.sample_games,
                earlier=[] if resumed_at is None else read_metric_lines(path),
            )
        )
    return CompositeLogger(loggers)
