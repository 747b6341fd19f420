"""Layers that backward computes again: gradient checkpointing, whatever mode the model is in.

In: a transformers model. Out: the same model, of whose layers only the inputs are kept for the backward pass.
transformers' own switch works in training mode alone, which dropout makes unfit for us (`ajet.train.scoring`).
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from ajet.errors import ConfigError
from ajet.train.lora import base_of


def recompute(model: Any) -> None:
    """Let each layer of the model, adapters included, be computed again in backward.

    Raises:
        ConfigError: transformers does not say what the model's layers are.
    """
    for layer in layers_of(model, setting="hardware.gradient_checkpointing=true"):
        # Nothing here draws random numbers, dropout being off.
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False)


def layers_of(model: Any, *, setting: str) -> list[GradientCheckpointingLayer]:
    """The model's layers.

    Raises:
        ConfigError: transformers does not say what they are; names the setting that needs them.
    """
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        kind = base_of(model).config.model_type
        raise ConfigError(f"{setting}: transformers does not mark the layers of {kind} as such; choose false")
    return layers
