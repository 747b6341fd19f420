"""Which language model is trained: where its checkpoint is, adapters, number format."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import MISSING

from ajet.config.fields import (
    BUILTIN_PREFIX,
    COMPARED,
    PACKAGED_PREFIX,
    TRAINING_ONLY,
    marks,
    one_of,
    ruled,
    with_marks,
)
from ajet.engine.packaged import check_packaged
from ajet.errors import ConfigError

_MODELS = Path(__file__).resolve().parent.parent / "engine" / "models"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass
class LoraConfig:
    """Low-rank adapters; with `rank` 0 all weights are trained."""

    rank: int = ruled(0, at_least=0)
    """Rank of the adapters; 0: none."""
    alpha: float | None = ruled(None, above=0)
    """Scale is alpha / rank; null with rank 0."""
    targets: list[str] | None = None
    """Names of the linear layers to adapt; null with rank 0."""


@dataclass
class ModelConfig:
    """Which model is trained, and in which number format."""

    path: str = field(default=MISSING, metadata=marks(COMPARED))
    """A directory in Hugging Face format, a hub id `owner/name`, `builtin:tiny`, or `package:smollm2`, which a Python
    package brings."""
    lora: LoraConfig = field(default_factory=LoraConfig, metadata=marks(TRAINING_ONLY))
    """Adapters."""
    dtype: str = with_marks(one_of("float32", "float32", "bfloat16"), COMPARED)
    """Number format of the engine, and in training of the weights below adapters. Weights that are trained are kept in
    float32, where small updates do not round away; what they compute in is `hardware.mixed_precision`."""
    max_context: int = with_marks(ruled(4096, at_least=16), COMPARED)
    """Most tokens of prompt and completion together."""


def settle_adapters(lora: LoraConfig, overrides: Sequence[str], *, server_trains: bool) -> None:
    """Drop what a preset says about its adapters where the command line wants none, `model.lora.rank=0`, or where a
    server makes them as it likes; what the command line says stays, and is checked."""
    named = {override.lstrip("+").partition("=")[0] for override in overrides}
    if not server_trains and (lora.rank or "model.lora.rank" not in named):
        return
    if "model.lora.alpha" not in named:
        lora.alpha = None
    if "model.lora.targets" not in named:
        lora.targets = None


def resolve_model_path(path: str) -> str:
    """`model.path` as transformers and vLLM take it: an absolute directory or a hub id; a packaged model's name
    stays as it is, for it is converted only when a run starts.

    Raises:
        ConfigError: no such directory, or it holds no `config.json`; nothing is looked up on a network.
        MissingExtraError: a package is not installed.
    """
    if path.startswith(BUILTIN_PREFIX):
        return str(_builtin_checkpoint(path.removeprefix(BUILTIN_PREFIX)))
    if path.startswith(PACKAGED_PREFIX):
        check_packaged(path.removeprefix(PACKAGED_PREFIX))
        return path
    directory = Path(path).expanduser()
    if directory.is_dir():
        if not (directory / "config.json").is_file():
            raise ConfigError(f"model.path={path} holds no config.json: name a Hugging Face checkpoint directory")
        return str(directory.resolve())
    if _HUB_ID.fullmatch(path):
        return path
    raise ConfigError(
        f"model.path={path} does not exist: give a checkpoint directory, a hub id such as Qwen/Qwen3-0.6B, "
        f"or {BUILTIN_PREFIX}{'|'.join(_builtin_names()) or 'tiny'}"
    )


def _builtin_checkpoint(name: str) -> Path:
    if name not in _builtin_names():
        raise ConfigError(
            f"model.path={BUILTIN_PREFIX}{name} is not in this installation; "
            f"built-in models: {', '.join(_builtin_names()) or 'none'}"
        )
    return _MODELS / name


def _builtin_names() -> list[str]:
    return sorted(config.parent.name for config in _MODELS.glob("*/config.json"))
