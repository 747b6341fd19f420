"""Where progress is shown. `metrics.jsonl` is written whatever is chosen here."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from ajet.config.fields import broken_rules, code, one_of, ruled
from ajet.config.user_options import user_option
from ajet.errors import ConfigError
from ajet.tracking.own_logger import OwnLoggerConfig
from ajet.tracking.weights_and_biases import WandbConfig


@dataclass
class LoggerConfig:
    """What is shown and stored of every step besides `metrics.jsonl`, which is always written."""

    console: str = one_of("rich", "rich", "plain", "none")
    """`rich` live display, `plain` one line a step, `none`."""
    wandb: WandbConfig = field(default_factory=WandbConfig)
    """Weights & Biases."""
    own: str | None = code()
    """A logger of one's own beside these, `path/file.py->name` or `package.module:name` (docs/extend/logger.md)."""
    own_args: dict[str, Any] = field(default_factory=dict)
    """Settings of a logger of one's own, checked against the dataclass of its settings."""
    trajectories_every: int = ruled(1, at_least=0)
    """Store the calls of every n-th step under trajectories/; 0: never."""


def own_logger(logger: LoggerConfig) -> OwnLoggerConfig | None:
    """The configuration of the user's logger; its file is imported. None where there is no such logger.

    Raises:
        ConfigError: it cannot be imported or used, or a setting is not one of its own, is missing or cannot work.
    """
    if logger.own is None:
        if logger.own_args:
            raise ConfigError(
                f"logger.own_args.{next(iter(logger.own_args))} has no effect with logger.own=null: drop it, or name "
                "a logger of your own that has such a setting"
            )
        return None
    kind = user_option("logger.own", logger.own, "own")
    named = [spec.name for spec in fields(kind) if spec.name != "own"]
    for name in logger.own_args:
        if name not in named:
            raise ConfigError(
                f"logger.own_args.{name}: logger.own={logger.own} has no such setting; it has "
                f"{', '.join(named) or 'none'}"
            )
    try:
        settings = OmegaConf.merge(OmegaConf.structured(kind), logger.own_args)
    except OmegaConfBaseException as error:
        key = f".{error.full_key}" if error.full_key else ""
        said = "no such setting" if isinstance(error, ConfigKeyError) else str(error.msg).partition("\n")[0]
        raise ConfigError(f"logger.own_args{key}: {said}") from error
    missing = sorted(OmegaConf.missing_keys(settings))
    if missing:
        raise ConfigError(f"logger.own={logger.own} needs logger.own_args.{missing[0]}")
    config = cast(OwnLoggerConfig, OmegaConf.to_object(settings))
    for sentence in broken_rules(config, "logger.own_args."):
        raise ConfigError(sentence)
    return config
