"""Adapters on their way into an engine that takes them as they are: a folder in peft's format.

In: what `update_weights` is given by an adapted policy. Out: each tensor once, checked, in a folder that vLLM loads as
an adapter. Left out: adding adapters up into weights (`ajet.train.lora`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ajet.engine.base import Adapters
from ajet.errors import EngineError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

PREFIX = "base_model.model."
"""Before a layer's name in peft's files."""


def write_adapters(weights: Iterable[tuple[str, Tensor]], adapters: Adapters, model: Module, folder: Path) -> None:
    """Write adapters as peft does.

    Args:
        weights: by peft's names.
        adapters: their shape.
        model: that they are for; may be without storage.
        folder: a new one.

    Raises:
        EngineError: an unknown name, another shape, adapters that did not come, or no room.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = _checked(weights, _shapes(adapters, model))
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": adapters.rank,
        "lora_alpha": adapters.alpha,
        "target_modules": list(adapters.targets),
        "bias": "none",
    }
    try:
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps(config))
        save_file(tensors, folder / "adapter_model.safetensors")
    except (OSError, SafetensorError) as error:
        raise EngineError(f"{folder} cannot be written for the engine: {error}") from error


def _shapes(adapters: Adapters, model: Module) -> dict[str, tuple[int, int]]:
    """Peft's name -> shape, of all adapters."""
    from torch import nn

    shapes = {}
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear) and any(f".{name}".endswith(f".{target}") for target in adapters.targets):
            shapes[f"{PREFIX}{name}.lora_A.weight"] = (adapters.rank, layer.in_features)
            shapes[f"{PREFIX}{name}.lora_B.weight"] = (layer.out_features, adapters.rank)
    return shapes


def _checked(weights: Iterable[tuple[str, Tensor]], shapes: dict[str, tuple[int, int]]) -> dict[str, Tensor]:
    tensors = {}
    for name, tensor in weights:
        if name not in shapes:
            raise EngineError(f"the model has no adapter {name!r}")
        if tensor.shape != shapes[name]:
            raise EngineError(f"{name} has shape {shapes[name]}, not {tuple(tensor.shape)}")
        tensors[name] = tensor.detach().cpu().contiguous()
    missing = sorted(shapes.keys() - tensors.keys())
    if missing:
        raise EngineError(f"the update lacks the adapters {missing}")
    return tensors
