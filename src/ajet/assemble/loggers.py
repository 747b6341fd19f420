"""The config's logger group -> where metrics go."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

from ajet.config.root import Config
from ajet.randomness import derive_seed
from ajet.tracking.loggers import CompositeLogger, JsonlLogger, MetricLogger, WandbLogger


def make_logger(config: Config, *, resumed_at: int | None) -> MetricLogger:
    """`metrics.jsonl` always, W&B unless disabled."""
    run_dir = Path(config.run_dir)
    loggers: list[MetricLogger] = [JsonlLogger(run_dir / "metrics.jsonl", keep_below_step=resumed_at)]
    wandb = config.logger.wandb
    if wandb.mode != "disabled":
        mode = wandb.mode
        if mode == "auto":
            mode = "online" if os.environ.get("WANDB_API_KEY") else "offline"
        name = wandb.name or "-".join(run_dir.parts[-2:])
        loggers.append(
            WandbLogger(
                run_dir=run_dir,
                mode=mode,
                project=wandb.project,
                name=name,
                group=wandb.group,
                run_id=_run_id(run_dir),
                config=asdict(config),
                num_sample_games=wandb.sample_games,
            )
        )
    return CompositeLogger(loggers)


def _run_id(run_dir: Path) -> str:
    """The same for every process that goes on with this run directory."""
    return f"{derive_seed(str(run_dir.resolve())):016x}"
