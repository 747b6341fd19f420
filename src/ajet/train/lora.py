"""Low-rank adapters (peft) and the plain weights that engines and checkpoints want, adapters merged in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.utils.other import transpose
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ajet.errors import ConfigError
from ajet.train.sharding import whole

ADAPTER = "default"
"""Peft's name for the one that is trained."""


def check_targets(model: Any, targets: Sequence[str]) -> None:
    """Refuse targets that no linear layer of the model has as its name, or the end of it.

    Raises:
        ConfigError: which, and the names that there are.
    """
    # GPT-2's linear layers are of transformers' own class.
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)]
    tied = model.all_tied_weights_keys if model.config.get_text_config().tie_word_embeddings else {}
    # The engine has one matrix for both ends of the model, where adapters would make two.
    layers = [name for name in layers if f"{name}.weight" not in {*tied, *tied.values()}]
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in layers):
            names = sorted({name.rpartition(".")[2] for name in layers})
            raise ConfigError(
                f"model.lora.targets: {target} names no linear layer of {model.config.model_type} that adapters can "
                f"train; choose from {', '.join(names)}"
            )


def with_lora(model: Any, *, rank: int, alpha: float, targets: Sequence[str]) -> PeftModel:
    """The model with adapters on the named linear layers; only they are trained."""
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets), task_type="CAUSAL_LM")
    return get_peft_model(model, config)


def base_of(model: Any) -> Any:
    """The transformers model beneath the adapters, or the model itself."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


@torch.no_grad()
def merged_state(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Hugging Face names and whole tensors, one by one; an output head that is tied to the embedding is left out.

    Adapted layers are added up into new tensors, so the trained ones stay untouched. Where weights are shared out,
    every rank must take all of them.
    """
    base = base_of(model)
    tied = set(base.all_tied_weights_keys) if base.config.tie_word_embeddings else set()
    adapted = {name: layer for name, layer in base.named_modules() if isinstance(layer, LoraLayer)}
    for name, tensor in base.state_dict().items():
        if "lora_" in name or name in tied:
            continue
        layer = adapted.get(name.removesuffix(".base_layer.weight"))
        yield name.replace(".base_layer.", "."), whole(tensor) if layer is None else whole(tensor) + _delta(layer)


@torch.no_grad()
def adapter_state(model: PeftModel) -> Iterator[tuple[str, Tensor]]:
    """Peft's names and whole tensors of the adapters, one by one; all ranks must take all of them, as above."""
    for name, tensor in model.named_parameters():
        if "lora_" in name:
            yield name.replace(f".{ADAPTER}.", "."), whole(tensor).detach()


def _delta(layer: LoraLayer) -> Tensor:
    """What the adapter adds to its layer's weight, as peft's `get_delta_weight`, of weights that may be shared out."""
    down, up = (whole(side[ADAPTER].weight) for side in (layer.lora_A, layer.lora_B))
    delta_OI: Tensor = up @ down
    scaled: Tensor = transpose(delta_OI, layer.fan_in_fan_out) * layer.scaling[ADAPTER]
    return scaled
