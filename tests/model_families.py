"""Tiny random models of every family that the installed transformers has, with windows shorter than a test's rows."""

from __future__ import annotations

import copy
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

VOCAB_SIZE = 64
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "is_decoder": True,
    "max_position_embeddings": 128,
    # Width.
    "hidden_size": 32,
    "d_model": 32,
    "word_embed_proj_dim": 32,
    "head_dim": 8,
    "intermediate_size": 48,
    "ffn_dim": 48,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    # Depth: four layers, for kinds of layers that take turns.
    "num_hidden_layers": 4,
    "decoder_layers": 4,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 48,
    "max_window_layers": 2,
    # What a token sees ends well within a row.
    "sliding_window": 6,
    "use_sliding_window": True,
    "attention_chunk_size": 6,
    "window_size": 6,
    "floor_scale": 6,
    # Experts.
    "num_experts": 4,
    "n_routed_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    # Latent attention and states.
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
"""By the names that configurations agree on; each takes those that it has."""
LATENT: dict[str, Any] = {"num_key_value_heads": 4, "head_dim": None, "n_group": 1, "topk_group": 1}
MAMBA_2: dict[str, Any] = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1}
OWN: dict[str, dict[str, Any]] = {
    **{family: {"logit_scale": 1.0} for family in ("cohere", "cohere2", "cohere2_moe")},
    "deepseek_v2": LATENT | {"first_k_dense_replace": 1},
    "deepseek_v3": LATENT | {"first_k_dense_replace": 1},
    "dots1": {"n_group": 1, "topk_group": 1, "n_shared_experts": 1},
    "falcon": {"head_dim": None, "new_decoder_architecture": False},
    "gemma3_text": {"layer_types": ["sliding_attention", "full_attention"] * 2},
    "gemma4_text": {"head_dim": None, "vocab_size_per_layer_input": VOCAB_SIZE, "hidden_size_per_layer_input": 8},
    "glm4_moe_lite": LATENT,
    "falcon_h1": MAMBA_2 | {"mamba_d_ssm": 64},
    "granitemoehybrid": MAMBA_2 | {"layer_types": ["linear_attention", "full_attention"] * 2},
    "gptj": {"rotary_dim": 4, "n_inner": None},
    "laguna": {"layer_types": ["sliding_attention", "full_attention"] * 2},
    "llama4_text": {"layer_types": ["chunked_attention", "full_attention"] * 2},
    "lfm2": {"layer_types": ["full_attention"] * 4},
    "mamba2": {"hidden_size": 32, "num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1},
    "mellum": {"layer_types": ["sliding_attention", "full_attention"] * 2},
}
"""What single families need besides, or instead; None leaves a name out."""


def tiny_model(family: str, *, attention: str | None = None, **settings: Any) -> Any:
    """A random float32 causal LM of a transformers model type.

    Weights are large enough that a token seen in error changes log-probabilities by tenths of nats at least.

    Args:
        family: `config.model_type`.
        attention: transformers' implementation; None for its own choice.
        settings: of the configuration, above those of this file.
    """
    default = CONFIG_MAPPING[family]().get_text_config()
    names = {*dir(default), *default.attribute_map}
    known = {name: value for name, value in SIZES.items() if name in names}
    given = {name: value for name, value in (known | OWN.get(family, {}) | settings).items() if value is not None}
    config = type(default)(**given)
    auto_model: Any = AutoModelForCausalLM
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = auto_model.from_config(copy.deepcopy(config), attn_implementation=attention).float().eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.dim() > 1 or "sinks" in name:
                    parameter.normal_(std=0.2)
    return model
