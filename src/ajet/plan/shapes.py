"""A checkpoint's `config.json` -> its counts: parameters, and what autograd keeps of a token.

The model is made on torch's `meta` device, which has shapes and no storage: no weight is read, and a forward pass costs
nothing but Python. Its attention is exchanged for one that keeps what torch's fused kernels keep. Left out: sizes
(`parts`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from ajet.config.fields import PACKAGED_PREFIX
from ajet.config.model import LoraConfig, ModelConfig, resolve_model_path
from ajet.engine.packaged import packaged_checkpoint
from ajet.errors import ConfigError
from ajet.plan.parts import ModelShape
from ajet.train.lora import base_of, check_targets, with_lora

COUNTED_ATTENTION = "ajet_counted"
_TOKENS = 16
"""Tokens of the pass that is counted; all that it counts is proportional to them."""


def local_model(model: ModelConfig) -> str:
    """Where the model's `config.json` is on this machine.

    Raises:
        ConfigError: a hub id that is not in the cache; nothing is downloaded.
    """
    path = resolve_model_path(model.path)
    if path.startswith(PACKAGED_PREFIX):
        return str(packaged_checkpoint(path.removeprefix(PACKAGED_PREFIX)))
    if Path(path).is_dir():
        return path
    cached = try_to_load_from_cache(path, "config.json")
    if not isinstance(cached, str):
        raise ConfigError(
            f"model.path={path} is not in the cache of Hugging Face, and a plan downloads nothing: fetch its "
            f"config.json first (hf download {path} config.json), or name a directory"
        )
    return str(Path(cached).parent)


def model_shape(model_path: str, lora: LoraConfig, *, dtype: str) -> ModelShape:
    """The counts of a checkpoint, with adapters where there are any.

    Args:
        model_path: a directory with `config.json`, or a hub id that is cached.
        lora: as configured.
        dtype: of the weights in training, without the adapters.

    Raises:
        ConfigError: there is no such checkpoint, or adapters for layers that there are not.
    """
    try:
        config = AutoConfig.from_pretrained(model_path)
    except (OSError, ValueError) as error:  # transformers' words for no file and for an unknown architecture
        raise ConfigError(f"model.path={model_path} cannot be loaded: {str(error).splitlines()[0]}") from error
    plain = _on_meta(config, getattr(torch, dtype))
    text = config.get_text_config()
    num_parameters = sum(parameter.numel() for parameter in plain.parameters())
    head: Any = plain.get_output_embeddings()
    linear = [module for module in plain.modules() if isinstance(module, nn.Linear) and module is not head]
    adapted = _adapted(plain, lora)
    num_adapted = sum(layer.weight.numel() for layer in adapted)
    model = _with_adapters(plain, lora)
    return ModelShape(
        num_parameters=num_parameters,
        num_adapter_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad) if lora.rank else 0,
        num_adapted_parameters=num_adapted,
        num_head_parameters=0 if head is None else head.weight.numel(),
        is_tied=bool(text.tie_word_embeddings),
        vocabulary=text.vocab_size,
        width=text.hidden_size,
        widest=max((max(layer.weight.shape) for layer in linear), default=text.hidden_size),
        num_layers=text.num_hidden_layers,
        kept_per_token=_kept_per_token(model),
        kv_per_token=_kv_per_token(text),
    )


def _on_meta(config: Any, dtype: torch.dtype) -> Any:
    """The model without storage, with counted attention where its architecture lets attention be exchanged."""
    auto_model: Any = AutoModelForCausalLM  # untyped
    with torch.device("meta"):
        try:
            return auto_model.from_config(config, dtype=dtype, attn_implementation=COUNTED_ATTENTION)
        except (ValueError, ImportError):  # transformers' words for an architecture that has its own
            return auto_model.from_config(config, dtype=dtype)


def _adapted(model: Any, lora: LoraConfig) -> list[Any]:
    if not lora.rank:
        return []
    check_targets(model, lora.targets or [])
    return [
        module
        for name, module in model.named_modules()
        if hasattr(module, "weight") and any(name == one or name.endswith(f".{one}") for one in lora.targets or [])
    ]


def _with_adapters(model: Any, lora: LoraConfig) -> Any:
    if not lora.rank:
        return model
    assert lora.alpha is not None and lora.targets is not None, "checked by the configuration"
    with torch.device("meta"):
        return with_lora(model, rank=lora.rank, alpha=lora.alpha, targets=lora.targets)


def _kept_per_token(model: Any) -> int | None:
    """Bytes of a token that the layers save for backward; None where the model does not run without storage."""
    own = {id(storage): storage for storage in (weight.untyped_storage() for weight in model.parameters())}
    kept: dict[int, Any] = {}  # storages stay referred to, so that none takes another's place

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if id(storage) not in own:
            kept[id(storage)] = storage
        return tensor

    ids = torch.zeros(1, _TOKENS, dtype=torch.long, device="meta")
    # A mask that is spelt out: transformers would look into the values of any other.
    mask = torch.ones(1, 1, _TOKENS, _TOKENS, dtype=torch.bool, device="meta")
    positions = torch.arange(_TOKENS, device="meta")[None]
    try:
        with torch.enable_grad(), torch.device("meta"), saved_tensors_hooks(keep, _given_back):
            base = base_of(model).eval().base_model
            base(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
    except Exception:  # the boundary to some hundred architectures, of which any may look at values that are not there
        return None
    num_bytes: int = sum(storage.nbytes() for storage in kept.values())
    return num_bytes // _TOKENS


def _given_back(tensor: Tensor) -> Tensor:
    return tensor


def _kv_per_token(text: Any) -> int:
    """Of the architectures that have them by the usual names; 0 for layers that carry a state instead."""
    queries = getattr(text, "num_attention_heads", None) or 0
    heads = getattr(text, "num_key_value_heads", None) or queries
    size = getattr(text, "head_dim", None) or (text.hidden_size // queries if queries else 0)
    return int(2 * text.num_hidden_layers * heads * size)


class _Attention(torch.autograd.Function):
    """Keeps what a fused kernel keeps: queries, keys and values of every head, the output, a sum of exponentials."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = torch.empty_like(q)
        ctx.save_for_backward(q, k, v, out, q.new_empty(q.shape[:-1], dtype=torch.float32))
        return out


def _attention(module: nn.Module, q: Tensor, k: Tensor, v: Tensor, *rest: Any, **options: Any) -> tuple[Tensor, None]:
    """[1, heads, T, size] each -> [1, T, heads, size]; keys and values are repeated, as they are beneath a mask."""
    repeats = q.shape[1] // k.shape[1]
    k, v = (tensor.repeat_interleave(repeats, 1) if repeats > 1 else tensor for tensor in (k, v))
    out: Tensor = _Attention.apply(q, k, v)  # type: ignore[no-untyped-call]
    return out.transpose(1, 2).contiguous(), None


# Converting a packaged model takes a moment; bars for it would tear up the table.
transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
AttentionInterface.register(COUNTED_ATTENTION, _attention)
