"""Where progress is shown. `metrics.jsonl` is written whatever is chosen here."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from ajet.config.fields import one_of, ruled
from ajet.errors import ConfigError


@dataclass
class WandbConfig:
    """The run in Weights & Biases, which never stops training: `metrics.jsonl` has every step in any case."""

    mode: str = one_of("auto", "auto", "online", "offline", "disabled")
    """`auto`: as WANDB_MODE says; without it online if WANDB_API_KEY is set, else offline. A server that cannot be
    reached makes an offline run of an online one."""
    project: str | None = None
    """The project's name; null: WANDB_PROJECT, or ajet."""
    group: str | None = None
    """Groups the runs of one study; null: WANDB_RUN_GROUP, or none."""
    name: str | None = None
    """The run's name; null: WANDB_NAME, or the run directory's."""
    sample_games: int = ruled(2, at_least=0)
    """Games of each step that are logged as a table to read."""


@dataclass
class LoggerConfig:
    """What is shown and stored of every step besides `metrics.jsonl`, which is always written."""

    console: str = one_of("rich", "rich", "plain", "none")
    """`rich` live display, `plain` one line a step, `none`."""
    wandb: WandbConfig = field(default_factory=WandbConfig)
    """Weights & Biases."""
    trajectories_every: int = ruled(1, at_least=0)
    """Store the calls of every n-th step under trajectories/; 0: never."""


MODES = {
    "online": "online",
    "offline": "offline",
    "disabled": "disabled",
    "shared": "shared",
    "run": "online",
    "dryrun": "offline",
}
"""What W&B takes as WANDB_MODE, its old names included, and what is meant."""
KEYS = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")
"""Environment variables that let one in."""


def wandb_mode(wandb: WandbConfig) -> str:
    """The mode that the setting and W&B's own environment variables come to.

    Raises:
        ConfigError: WANDB_MODE is none of W&B's.
    """
    if wandb.mode != "auto":
        return wandb.mode
    if os.environ.get("WANDB_DISABLED", "").lower() in ("true", "1", "yes"):
        return "disabled"
    asked = os.environ.get("WANDB_MODE")
    if asked:
        if asked not in MODES:
            raise ConfigError(f"WANDB_MODE={asked} is none of W&B's modes: set it to {', '.join(MODES)}, or unset it")
        return MODES[asked]
    return "online" if any(os.environ.get(key) for key in KEYS) else "offline"


def off_by_environment(wandb: WandbConfig) -> str | None:
    """A note on settings that the environment keeps from having an effect; None where there are none."""
    given = _given(wandb)
    if not given or wandb.mode != "auto" or wandb_mode(wandb) != "disabled":
        return None
    variable = next(name for name in ("WANDB_DISABLED", "WANDB_MODE") if os.environ.get(name))
    settings = ", ".join(f"logger.wandb.{name}" for name in given)
    return f"{variable}={os.environ[variable]} turns W&B off, so {settings} has no effect"


def _given(wandb: WandbConfig) -> list[str]:
    """What else than the mode is set."""
    default = WandbConfig()
    return [
        name for name in ("project", "group", "name", "sample_games") if getattr(wandb, name) != getattr(default, name)
    ]


def check_logger(logger: LoggerConfig) -> None:
    """Refuse settings that contradict each other.

    Raises:
        ConfigError: what to change.
    """
    wandb = logger.wandb
    wandb_mode(wandb)
    for name in _given(wandb) if wandb.mode == "disabled" else []:
        raise ConfigError(f"logger.wandb.{name} has no effect with logger.wandb.mode=disabled: drop one of them")
    has_key = any(key in os.environ for key in KEYS) or (Path.home() / ".netrc").is_file()
    if wandb.mode == "online" and not has_key:
        raise ConfigError("logger.wandb.mode=online needs WANDB_API_KEY in the environment; or choose auto, offline")
