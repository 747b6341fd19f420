"""What an evaluation plays: its request in, the evaluated run's config with the request's changes out."""

from __future__ import annotations

from pathlib import Path

from ajet.config.compose import load
from ajet.config.logger import WandbConfig
from ajet.config.root import Config, EvaluateConfig
from ajet.config.validate import validate


def played_config(request: EvaluateConfig) -> Config:
    """The run's config with the requested opponent and display, and without W&B.

    Raises:
        ConfigError: no such run directory, or an opponent that cannot play its workflow.
    """
    config = load(Path(request.run))
    if request.opponent is not None:
        config.opponent = request.opponent
    config.logger.console = request.console
    config.logger.wandb = WandbConfig(mode="disabled")
    validate(config)
    return config
