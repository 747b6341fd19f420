"""Settings for a model that no file of `conf/model` describes: careful ones, and a line that says so.

In: a configuration, and what the command line named. Out: the same with a learning rate that harms no model. What
`conf/model` says of the small model that ships with ajet would ruin a larger one within a step.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ajet.config.algorithm import AlgorithmConfig
from ajet.config.fields import BUILTIN_PREFIX
from ajet.config.model import resolve_model_path
from ajet.config.root import Config
from ajet.errors import ConfigError

CAREFUL_RATE = AlgorithmConfig.learning_rate
CAREFUL_LORA_RATE = 1e-5
"""Adapters start at nothing, and stand ten times the rate."""
_SHAPE = ("model_type", "hidden_size", "num_hidden_layers", "vocab_size")


def careful_with_unknown(config: Config, overrides: Sequence[str]) -> None:
    """Choose a careful learning rate where the command line names a model's path and neither a rate nor the model's
    own settings. A checkpoint of the shape that the settings are for keeps them."""
    named = {override.lstrip("+").partition("=")[0] for override in overrides}
    if "model.path" not in named or named & {"model", "algorithm.learning_rate"}:
        return
    if not _is_small(config):
        config.algorithm.learning_rate = min(config.algorithm.learning_rate, _careful_rate(config))


def careful_note(config: Config) -> str | None:
    """For the lines that a run begins with: that its learning rate is only careful; None where it is not."""
    if config.algorithm.learning_rate != _careful_rate(config) or _is_small(config):
        return None
    return f"learning rate {_careful_rate(config):g} is careful for any model; algorithm.learning_rate sets another"


def _careful_rate(config: Config) -> float:
    return CAREFUL_LORA_RATE if config.model.lora.rank else CAREFUL_RATE


def _is_small(config: Config) -> bool:
    """Whether it is the model that the default settings are for, or a checkpoint of its shape."""
    tiny = f"{BUILTIN_PREFIX}tiny"
    return config.model.path.startswith(BUILTIN_PREFIX) or _shape(config.model.path) == _shape(tiny)


def _shape(path: str) -> dict[str, Any] | None:
    """What makes out a checkpoint's size; None where it is not on this machine."""
    try:
        content = json.loads((Path(resolve_model_path(path)) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, ConfigError):
        return None
    return {name: content.get(name) for name in _SHAPE}
