"""Packs through a model, exactly: each layer sees of a pack what it would see of the plain row.

In: a transformers model and a pack. Out: logits, or what the model gives. The model itself says what a layer may see,
as a function of two positions (causal, a sliding window, a chunk); transformers asks one place to turn that function
into a mask, and while a pack is computed that place evaluates it at the *positions* of the pack's tokens and keeps
ancestors only. So no kind of mask is spelt out here. Three ways to attend, by the pack (`HardwareConfig.blocks_from`
says from what size on): plain rows without a mask, torch's fastest; trees by a dense mask, or by FlexAttention, whose
mask is never made: where a subtree ends says of whole blocks of pairs whether they see each other. What cannot branch
(layers with a state, biases by place in the pack) gets packs that are plain rows. Left out: what packs are made of, and
losses.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask
from transformers import AttentionInterface
from transformers.masking_utils import (
    ALL_MASK_ATTENTION_FUNCTIONS,
    AttentionMaskInterface,
    causal_mask_function,
    sdpa_mask,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ajet.config.hardware import BLOCK
from ajet.engine.families import why_not_by_masks
from ajet.train.lora import base_of
from ajet.train.packing import Pack, subtree_ends

MaskFunction = Callable[..., Tensor]
"""What a layer may see, as transformers says it: batch, head, two positions -> whether the first sees the second."""
BY_MASK = "ajet_flex_attention"
"""Our name, among transformers' implementations of attention, for the one that goes by the kind of mask."""


def why_chains_only(model: Any) -> str | None:
    """Why the model's packs may not branch by what is known of its type; None where they may."""
    return why_not_by_masks(base_of(model).config.get_text_config())


def pack_logits(model: Any, pack: Pack, kept_K: Tensor, *, blocks_from: int | None = None) -> Tensor:
    """[K, V]: the outputs of a causal LM at the nodes `kept_K` of `pack`, on the model's device."""
    taken = inspect.signature(base_of(model).forward).parameters
    if "logits_to_keep" in taken:
        output = run_pack(model, pack, kept_K.device, blocks_from=blocks_from, logits_to_keep=kept_K)
        kept_KV: Tensor = output.logits[0]
        return kept_KV
    logits_UV: Tensor = run_pack(model, pack, kept_K.device, blocks_from=blocks_from).logits[0]
    return logits_UV[kept_K]


def run_pack(model: Any, pack: Pack, device: torch.device, *, blocks_from: int | None = None, **options: Any) -> Any:
    """What a transformers model, with its head or without, gives for a pack as its one text.

    Args:
        model: with adapters or without.
        pack: plain or branching.
        device: the model's.
        blocks_from: from how many tokens on a branching pack goes by blocks, if `attends_by_mask(model)`; None for
            never.
        options: of the model's call.
    """
    ids = torch.from_numpy(pack.token_ids)[None].to(device)
    if pack.is_chain:
        # A plain row: the model knows best, and without a mask attention is faster.
        return model(input_ids=ids, use_cache=False, **options)
    positions_U = torch.from_numpy(pack.positions).to(device)
    ends_U = torch.from_numpy(subtree_ends(pack.parents)).to(device)
    by_blocks = blocks_from is not None and len(pack.token_ids) >= blocks_from
    # A mask of ones: without it, transformers would take each branch for a text of its own.
    ones = torch.ones_like(ids)
    with tree_masks(ends_U, positions_U, by_blocks=by_blocks):
        return model(input_ids=ids, position_ids=positions_U[None], attention_mask=ones, use_cache=False, **options)


def attends_by_mask(model: Any) -> str | None:
    """Let the model's attention go by the kind of mask that it is given: blocks by transformers' FlexAttention, any
    other as before. Nothing changes where that cannot be.

    Returns:
        Why it cannot be, as a clause for a sentence; None where it is done.
    """
    base = base_of(model)
    config = base.config.get_text_config()
    if config._attn_implementation not in ("sdpa", BY_MASK):
        return f"{config.model_type} computes attention in a way of its own ({config._attn_implementation})"
    if not base._supports_flex_attn:
        return f"transformers has no FlexAttention for {config.model_type}"
    base.set_attn_implementation(BY_MASK)
    assert config._attn_implementation == BY_MASK, "whose FlexAttention may be chosen, its attention may"
    return None


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | BlockMask | None, **options: Any
) -> tuple[Tensor, Tensor | None]:
    """One layer's attention, as transformers calls and computes it; [1, heads, U, size] each."""
    if not isinstance(attention_mask, BlockMask):
        plain: tuple[Tensor, None] = ALL_ATTENTION_FUNCTIONS["sdpa"](
            module, query, key, value, attention_mask, **options
        )
        return plain
    kind = query.device.type
    if torch.is_autocast_enabled(kind):
        # Norms of queries and keys give float32 beside values in bf16, which autocast mends for sdpa alone.
        dtype = torch.get_autocast_dtype(kind)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    blocks: tuple[Tensor, Tensor | None] = ALL_ATTENTION_FUNCTIONS["flex_attention"](
        module, query, key, value, attention_mask, **options
    )
    return blocks


AttentionInterface.register(BY_MASK, attend)
# For what is no tree: a plain row needs no mask, and gets none.
AttentionMaskInterface.register(BY_MASK, sdpa_mask)


def ancestor_mask(ends_U: Tensor) -> Tensor:
    """[U, U]: row u is True at u and its ancestors, by `subtree_ends`. Made on its device, not sent there."""
    index_U = torch.arange(len(ends_U), device=ends_U.device)
    return (index_U[:, None] < ends_U[None, :]).tril_()


def ancestor_blocks(ends_U: Tensor, *, size: int = BLOCK) -> tuple[Tensor, Tensor]:
    """Two of [N, N], N blocks of `size` tokens: whether some pair of a block of queries and one of keys sees each
    other, and whether all do. Of a mask of U x U nothing is made.

    k is an ancestor of q, or q itself, where k <= q < ends[k]; so of a block of keys before a block of queries, the
    first query is seen where any subtree reaches it, and all are where every subtree reaches behind the last.
    """
    num = -(-len(ends_U) // size)
    # What fills up the last block has no subtree: nothing sees it, and no block that holds it is whole.
    ends_NS = torch.nn.functional.pad(ends_U, (0, num * size - len(ends_U))).view(num, size)
    first_N = torch.arange(num, device=ends_U.device) * size
    before_NN = first_N[:, None] > first_N[None, :]
    some_NN = before_NN & (first_N[:, None] < ends_NS.amax(1)[None, :])
    every_NN = before_NN & (first_N[:, None] + size <= ends_NS.amin(1)[None, :])
    return some_NN.fill_diagonal_(True), every_NN


def block_mask(ends_U: Tensor, positions_U: Tensor, seen: MaskFunction) -> BlockMask:
    """FlexAttention's mask of a pack.

    Args:
        ends_U: where subtrees end.
        positions_U: depths.
        seen: what a layer may see.
    """

    def ancestors(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (k <= q) & (q < ends_U[k])

    def ancestors_seen(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return ancestors(batch, head, q, k) & seen(batch, head, positions_U[q], positions_U[k])

    some_NN, every_NN = ancestor_blocks(ends_U)
    # Ancestors stand before in their row, too; what is not so plain may leave out pairs of any block.
    plain: Any = causal_mask_function
    is_plain = seen is plain
    if not is_plain:
        every_NN = torch.zeros_like(every_NN)
    some, every = _listed(some_NN & ~every_NN), _listed(every_NN)
    mask: BlockMask = BlockMask.from_kv_blocks(
        *some,
        *every,
        BLOCK_SIZE=BLOCK,
        mask_mod=ancestors if is_plain else ancestors_seen,
        seq_lengths=(len(ends_U), len(ends_U)),
    )
    return mask


def _listed(chosen_NN: Tensor) -> tuple[Tensor, Tensor]:
    """[1, 1, N] how many blocks of keys each block of queries has, and [1, 1, N, N] which, those first."""
    which_NN = chosen_NN.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
    return chosen_NN.sum(-1, dtype=torch.int32)[None, None], which_NN.to(torch.int32)[None, None]


@contextmanager
def tree_masks(ends_U: Tensor, positions_U: Tensor, *, by_blocks: bool = False) -> Iterator[None]:
    """Let every mask that a transformers model makes meanwhile be that of a pack.

    Args:
        ends_U: where each token's subtree ends (`subtree_ends`).
        positions_U: depths.
        by_blocks: whether a model that `attends_by_mask` gets FlexAttention's.
    """
    num = len(positions_U)

    def blocks(*, q_length: int, kv_length: int, mask_function: MaskFunction, **_: Any) -> BlockMask:
        assert (q_length, kv_length) == (num, num), "not a mask over the tokens of one text"
        return block_mask(ends_U, positions_U, mask_function)

    made = {BY_MASK: blocks} if by_blocks else _dense_masks(ancestor_mask(ends_U), positions_U)
    # transformers' way to replace an entry: on its one instance, above the class's own.
    for name, make in made.items():
        ALL_MASK_ATTENTION_FUNCTIONS[name] = make
    try:
        yield
    finally:
        for name in made:
            ALL_MASK_ATTENTION_FUNCTIONS.pop(name)


def _dense_masks(ancestors_UU: Tensor, positions_U: Tensor) -> dict[str, Callable[..., Any]]:
    """What makes masks of all pairs, by transformers' names of implementations."""
    num = len(positions_U)

    def boolean_mask(
        *, q_length: int, kv_length: int, mask_function: MaskFunction, use_vmap: bool = False, **_: Any
    ) -> Tensor:
        assert (q_length, kv_length, use_vmap) == (num, num, False), "not a mask over the tokens of one text"
        zero = torch.zeros(1, 1, 1, 1, dtype=torch.long, device=positions_U.device)
        return mask_function(zero, zero, positions_U.view(1, 1, num, 1), positions_U.view(1, 1, 1, num)) & ancestors_UU

    def additive_mask(*, dtype: torch.dtype = torch.float32, **arguments: Any) -> Tensor:
        seen = boolean_mask(**arguments)
        return torch.where(seen, torch.zeros((), dtype=dtype, device=seen.device), torch.finfo(dtype).min)

    return {"sdpa": boolean_mask, "eager": additive_mask, BY_MASK: boolean_mask}
