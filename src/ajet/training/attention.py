"""Packs through a model, exactly: each layer sees of a pack what it would see of the plain row.

In: a transformers causal LM and a pack. Out: logits. The model itself says what a layer may see, as a function of two
positions (causal, a sliding window, a chunk); transformers asks one place to turn that function into a mask, and while
a pack is computed that place evaluates it at the *positions* of the pack's tokens and keeps ancestors only. So no kind
of mask is spelt out here. What cannot branch (layers with a state, biases by place in the pack) gets packs that are
plain rows. Left out: what packs are made of, and losses.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from ajet.training.lora import base_of
from ajet.training.packing import Pack, ancestor_mask

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


def why_chains_only(model: Any) -> str | None:
    """Why the model's packs may not branch, as a clause for a sentence; None where they may."""
    base = base_of(model)
    config = base.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or ()
    if other := sorted(set(kinds) - MASKED_LAYERS):
        return f"{config.model_type} has layers of kind {', '.join(other)}, which cannot go on from a branch"
    if config.model_type not in TREE_FAMILIES:
        return f"{config.model_type} is not among the models whose branching packs are known to be exact"
    if getattr(config, "alibi", False):
        return f"{config.model_type} with ALiBi weighs a token by its place in the pack"
    return None


def pack_logits(model: Any, pack: Pack, kept_K: Tensor) -> Tensor:
    """[K, V]: the outputs of `model` at the nodes `kept_K` of `pack`, on the model's device."""
    base = base_of(model)
    device = kept_K.device
    ids = torch.from_numpy(pack.token_ids)[None].to(device)
    taken = inspect.signature(base.forward).parameters
    selection = {"logits_to_keep": kept_K} if "logits_to_keep" in taken else {}
    if pack.is_chain:
        # A plain row: the model knows best, and without a mask attention is faster.
        logits: Tensor = model(input_ids=ids, use_cache=False, **selection).logits[0]
    else:
        positions_U = torch.from_numpy(pack.positions).to(device)
        ancestors_UU = torch.from_numpy(ancestor_mask(pack.parents)).to(device)
        with tree_masks(ancestors_UU, positions_U):
            logits = model(
                input_ids=ids,
                position_ids=positions_U[None],
                # Of ones: without it, transformers would take each branch for a text of its own.
                attention_mask=torch.ones_like(ids),
                use_cache=False,
                **selection,
            ).logits[0]
    return logits if selection else logits[kept_K]


@contextmanager
def tree_masks(ancestors_UU: Tensor, positions_U: Tensor) -> Iterator[None]:
    """Let every mask that a transformers model makes meanwhile be that of a pack.

    Args:
        ancestors_UU: row u is True at u and its ancestors.
        positions_U: depths.
    """

    def boolean_mask(
        *, q_length: int, kv_length: int, mask_function: Callable[..., Tensor], use_vmap: bool = False, **_: Any
    ) -> Tensor:
        num = len(positions_U)
        assert (q_length, kv_length, use_vmap) == (num, num, False), "not a mask over the tokens of one text"
        zero = torch.zeros(1, 1, 1, 1, dtype=torch.long, device=positions_U.device)
        return mask_function(zero, zero, positions_U.view(1, 1, num, 1), positions_U.view(1, 1, 1, num)) & ancestors_UU

    def additive_mask(*, dtype: torch.dtype = torch.float32, **arguments: Any) -> Tensor:
        seen = boolean_mask(**arguments)
        return torch.where(seen, torch.zeros((), dtype=dtype, device=seen.device), torch.finfo(dtype).min)

    # transformers' way to replace an entry: on its one instance, above the class's own.
    ALL_MASK_ATTENTION_FUNCTIONS["sdpa"] = boolean_mask
    ALL_MASK_ATTENTION_FUNCTIONS["eager"] = additive_mask
    try:
        yield
    finally:
        ALL_MASK_ATTENTION_FUNCTIONS.pop("sdpa")
        ALL_MASK_ATTENTION_FUNCTIONS.pop("eager")
