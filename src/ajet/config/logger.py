"""Where progress is shown. `metrics.jsonl` is written whatever is chosen here."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from ajet.config.fields import one_of, ruled
from ajet.errors import ConfigError


@dataclass
class WandbConfig:
    """Weights & Biases."""

    mode: str = one_of("auto", "auto", "online", "offline", "disabled")
    """`auto`: online if WANDB_API_KEY is set, else offline."""
    project: str = "ajet"
    """The project's name."""
    group: str | None = None
    """Groups the runs of one study."""
    name: str | None = None
    """The run's name; null: the run directory's."""
    sample_games: int = ruled(2, at_least=0)
    """Games of each step that are logged as a table to read."""


@dataclass
class LoggerConfig:
    """The logger group."""

    console: str = one_of("rich", "rich", "plain", "none")
    """`rich` live display, `plain` one line a step, `none`."""
    wandb: WandbConfig = field(default_factory=WandbConfig)
    """Weights & Biases."""
    trajectories_every: int = ruled(1, at_least=0)
    """Store the calls of every n-th step under trajectories/; 0: never."""


def check_logger(logger: LoggerConfig) -> None:
    """Refuse settings that contradict each other.

    Raises:
        ConfigError: what to change.
    """
    wandb = logger.wandb
    if wandb.mode == "disabled" and (wandb.group is not None or wandb.name is not None):
        raise ConfigError("logger.wandb.group and logger.wandb.name have no effect with logger.wandb.mode=disabled")
    if wandb.mode == "online" and "WANDB_API_KEY" not in os.environ and not (Path.home() / ".netrc").is_file():
        raise ConfigError("logger.wandb.mode=online needs WANDB_API_KEY in the environment; or choose auto, offline")
