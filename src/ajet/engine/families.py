"""What is known of transformers' model types: in which of them masks and positions alone say what a token sees.

In: a checkpoint's own configuration. Out: why packs may not branch and cached keys may not be moved about. What is not
listed is taken for a model that can do neither. Left out: torch, and measuring the model itself.
"""

from __future__ import annotations

from typing import Any

_FAMILIES = """
afmoe apertus arcee aria_text biogpt bitnet cohere cohere2 cohere2_moe cwm deepseek_v2 deepseek_v3 diffllama dots1
ernie4_5 ernie4_5_moe exaone4 exaone_moe falcon flex_olmo gemma gemma2 gemma3_text gemma4_text glm glm4 glm4_moe
glm4_moe_lite gpt2 gpt_bigcode gpt_neox gpt_oss gptj granite granite_swa granitemoe granitemoe_swa granitemoeshared
helium hunyuan_v1_dense hunyuan_v1_moe hyperclovax jais2 jetmoe laguna lfm2 llama mellum mimo_v2_flash minimax_m2
ministral ministral3 mistral mixtral nanochat nemotron olmo olmo2 olmo3 olmoe opt persimmon phi phi3 phimoe qwen2
qwen2_moe qwen3 qwen3_moe seed_oss smollm3 solar_open stablelm starcoder2 vaultgemma xglm
"""
TREE_FAMILIES = frozenset(_FAMILIES.split())
"""Model types whose packs may branch: each was read and is measured by `tests/integration/test_model_families.py`."""

MASKED_LAYERS = frozenset({"full_attention", "sliding_attention", "chunked_attention"})
"""Kinds of layers in which a token depends on others through the mask alone."""


def why_not_by_masks(text_config: Any) -> str | None:
    """Why masks do not say everything about a transformers model, as a clause for a sentence; None where they do.

    Args:
        text_config: what `config.get_text_config()` gives.
    """
    family: str = text_config.model_type
    kinds = getattr(text_config, "layer_types", None) or ()
    if other := sorted(set(kinds) - MASKED_LAYERS):
        return f"{family} has layers of kind {', '.join(other)}, which cannot continue from a branch"
    if family not in TREE_FAMILIES:
        return f"{family} is not among the models whose branching packs are known to be exact"
    if getattr(text_config, "alibi", False):
        return f"{family} with ALiBi weighs a token by its place in the pack"
    return None
