"""Packs through a model, exactly: each layer sees of a pack what it would see of the plain row.

In: a transformers model and a pack. Out: logits, or what the model gives. The model itself says what a layer may see,
as a function of two positions (causal, a sliding window, a chunk); transformers asks one place to turn that function
into a mask, and while a pack is computed that place evaluates it at the *positions* of the pack's tokens and keeps
ancestors only. So no kind of mask is spelt out here. What cannot branch (layers with a state, biases by place in the
pack) gets packs that are plain rows. Left out: what packs are made of, and losses.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from ajet.engine.families import why_not_by_masks
from ajet.train.lora import base_of
from ajet.train.packing import Pack, subtree_ends


def why_chains_only(model: Any) -> str | None:
    """Why the model's packs may not branch by what is known of its type; None where they may."""
    return why_not_by_masks(base_of(model).config.get_text_config())


def pack_logits(model: Any, pack: Pack, kept_K: Tensor) -> Tensor:
    """[K, V]: the outputs of a causal LM at the nodes `kept_K` of `pack`, on the model's device."""
    taken = inspect.signature(base_of(model).forward).parameters
    if "logits_to_keep" in taken:
        kept_KV: Tensor = run_pack(model, pack, kept_K.device, logits_to_keep=kept_K).logits[0]
        return kept_KV
    logits_UV: Tensor = run_pack(model, pack, kept_K.device).logits[0]
    return logits_UV[kept_K]


def run_pack(model: Any, pack: Pack, device: torch.device, **options: Any) -> Any:
    """What a transformers model, with its head or without, gives for a pack as its one text."""
    ids = torch.from_numpy(pack.token_ids)[None].to(device)
    if pack.is_chain:
        # A plain row: the model knows best, and without a mask attention is faster.
        return model(input_ids=ids, use_cache=False, **options)
    positions_U = torch.from_numpy(pack.positions).to(device)
    ancestors_UU = ancestor_mask(torch.from_numpy(subtree_ends(pack.parents)).to(device))
    # A mask of ones: without it, transformers would take each branch for a text of its own.
    ones = torch.ones_like(ids)
    with tree_masks(ancestors_UU, positions_U):
        return model(input_ids=ids, position_ids=positions_U[None], attention_mask=ones, use_cache=False, **options)


def ancestor_mask(ends_U: Tensor) -> Tensor:
    """[U, U]: row u is True at u and its ancestors, by `subtree_ends`. Made on its device, not sent there."""
    index_U = torch.arange(len(ends_U), device=ends_U.device)
    return (index_U[:, None] < ends_U[None, :]).tril_()


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
