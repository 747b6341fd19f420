"""A checkpoint -> a transformers model that computes attention as the checkpoint's makers did.

In: a path and a number format. Out: the model, the same in the trainer and in the transformers engine, so that both
give a token the same probability. Left out: devices, adapters, what a pack is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import AutoConfig, AutoModelForCausalLM

from ajet.errors import ConfigError

if TYPE_CHECKING:
    import torch
from safetensors import SafetensorError

LENGTH_DEPENDENT_ROPE = ("dynamic", "longrope")
"""Rotary positions whose angles depend on how long the whole text is, beyond the length of pretraining."""


def load_causal_lm(model_path: str, dtype: torch.dtype, *, max_context: int) -> Any:
    """The checkpoint's model in `dtype`, on the CPU.

    Any: models are typed by what they share, which is not how a causal language model is called.

    Raises:
        ConfigError: there is no such checkpoint, or texts of `max_context` tokens have no one definition in it.
    """
    try:
        config = AutoConfig.from_pretrained(model_path)
        check_context(config, max_context)
        return AutoModelForCausalLM.from_pretrained(
            model_path, config=config, dtype=dtype, attn_implementation=attention_implementation(config)
        )
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"model.path={model_path} cannot be loaded: {str(error).splitlines()[0]}") from error


def attention_implementation(config: Any) -> str | None:
    """`eager` where torch's `sdpa` would leave out a step without a word; None where transformers chooses well itself.

    A soft cap on attention scores (Gemma 2) is such a step. Models with attention sinks (gpt-oss) have no `sdpa` at
    all, so transformers chooses `eager` for them.
    """
    soft_cap = getattr(config.get_text_config(), "attn_logit_softcapping", None)
    return None if soft_cap is None else "eager"


def check_context(config: Any, max_context: int) -> None:
    """Refuse lengths at which a token's angles change with what comes behind it.

    The engine samples a token before it knows how long the text will be, and vLLM decides by `max_context`, so no
    trainer could give back the probabilities.

    Raises:
        ConfigError: what to set `model.max_context` to.
    """
    text_config = config.get_text_config()
    rope = getattr(text_config, "rope_parameters", None) or {}
    # One set of parameters, or one by kind of layer.
    for parameters in [rope] if "rope_type" in rope else rope.values():
        kind = parameters.get("rope_type") if isinstance(parameters, dict) else None
        if kind not in LENGTH_DEPENDENT_ROPE:
            continue
        length = parameters.get("original_max_position_embeddings") or text_config.max_position_embeddings
        if max_context > length:
            raise ConfigError(
                f"model.max_context={max_context} is more than the {length} tokens up to which the {kind} rotary "
                f"positions of {text_config.model_type} are the same for every text: set model.max_context={length}"
            )
