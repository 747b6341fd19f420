"""Part `attention`: a tree by a dense mask and by FlexAttention's blocks, on the same pack.

In: a pack. Out: what attention gives, by either way, how long one layer takes, and how long a whole update.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from experiments.gpu.measuring import give_back, in_turns, peak_gib_of
from experiments.gpu.passes import make_policy, packed_pass
from experiments.gpu.results import Result, Settings, Value
from experiments.gpu.rows import Groups, make_rows, packs_of
from experiments.gpu.shapes import QWEN3_0_6B, SMALL, Shape, make_model
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.functional import scaled_dot_product_attention
from transformers.masking_utils import causal_mask_function

from ajet.config.hardware import BLOCK
from ajet.train.attention import ancestor_mask, block_mask
from ajet.train.packing import Pack, subtree_ends

FULL = (
    Groups(num_groups=1, group_size=8, num_prompt=1536, num_sampled=320),
    Groups(num_groups=1, group_size=8, num_prompt=4096, num_sampled=1536),
    Groups(num_groups=1, group_size=32, num_prompt=4096, num_sampled=384),
)
TINY = (Groups(num_groups=1, group_size=3, num_prompt=24, num_sampled=8),)
EXACT = Groups(num_groups=1, group_size=4, num_prompt=256, num_sampled=192)
"""Small enough for float32, in which gradients are compared."""

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


def ends_of(pack: Pack, device: torch.device) -> Tensor:
    """Where subtrees end."""
    return torch.from_numpy(subtree_ends(pack.parents)).to(device)


def blocks_of(pack: Pack, device: torch.device) -> BlockMask:
    """FlexAttention's mask of a pack."""
    plain: Any = causal_mask_function
    return block_mask(ends_of(pack, device), torch.from_numpy(pack.positions).to(device), plain)


def dense_attention(pack: Pack, device: torch.device) -> Attention:
    """By a mask of U x U."""
    mask_UU = ancestor_mask(ends_of(pack, device))
    return lambda q, k, v: scaled_dot_product_attention(q, k, v, attn_mask=mask_UU, enable_gqa=True)


def flex_attention_of(pack: Pack, device: torch.device) -> Attention:
    """By blocks: compiled on a GPU; on a CPU torch's own eager form, which has no backward."""
    kernel: Any = torch.compile(flex_attention, dynamic=False) if device.type == "cuda" else flex_attention
    blocks = blocks_of(pack, device)
    return lambda q, k, v: kernel(q, k, v, block_mask=blocks, enable_gqa=True)


def measure(settings: Settings) -> Result:
    """Equality, then speed and memory where there is a GPU."""
    device = torch.device(settings.device)
    shape = SMALL if settings.small else QWEN3_0_6B
    equality = _equality(shape, TINY[0] if settings.small else EXACT, device)
    timed = [_timed(shape, groups, device) for groups in (TINY if settings.small else FULL)]
    tables = {"Equality with the dense mask": equality, "One layer's attention, bf16": timed}
    if device.type == "cuda":
        tables["Loss and backward of one tree, bf16"] = [
            _update(shape, groups, device, compiled=compiled) for groups in FULL for compiled in (False, True)
        ]
    notes = [] if device.type == "cuda" else ["FlexAttention has no backward on a CPU: forward alone, and eager."]
    return Result(tables=tables, notes=notes)


def one_pack(groups: Groups, *, vocabulary: int = 1 << 15) -> Pack:
    """A single pack of these rows."""
    (pack,) = packs_of(make_rows(groups, vocabulary=vocabulary), max_tokens=groups.num_unique)
    return pack


def random_heads(shape: Shape, num: int, device: torch.device, dtype: torch.dtype, *, grad: bool) -> list[Tensor]:
    """Queries, keys and values [1, heads, U, size] of one layer."""
    draw = torch.Generator(device).manual_seed(0)
    return [
        torch.randn(1, heads, num, shape.head_size, generator=draw, device=device, dtype=dtype, requires_grad=grad)
        for heads in (shape.num_heads, shape.num_kv_heads, shape.num_kv_heads)
    ]


def _equality(shape: Shape, groups: Groups, device: torch.device) -> list[dict[str, Value]]:
    pack = one_pack(groups)
    grad = device.type == "cuda"
    rows: list[dict[str, Value]] = []
    for dtype in (torch.float32, torch.bfloat16):
        heads = random_heads(shape, len(pack.token_ids), device, dtype, grad=grad)
        outputs: list[list[Tensor]] = []
        for attention in (dense_attention(pack, device), flex_attention_of(pack, device)):
            out = attention(*heads)
            # Sums of squares, so that each output has a gradient of its own.
            of_inputs = torch.autograd.grad(out.float().square().sum(), heads) if grad else ()
            outputs.append([out.detach(), *of_inputs])
        row: dict[str, Value] = {"tokens": len(pack.token_ids), "precision": str(dtype).removeprefix("torch.")}
        for name, dense, flex in zip(("output", "dq", "dk", "dv"), *outputs, strict=False):
            row[name] = float((flex.float() - dense.float()).norm() / dense.float().norm())
        rows.append(row)
    return rows


def _timed(shape: Shape, groups: Groups, device: torch.device) -> dict[str, Value]:
    pack = one_pack(groups)
    grad = device.type == "cuda"
    heads = random_heads(shape, len(pack.token_ids), device, torch.bfloat16, grad=grad)
    attentions = {"dense": dense_attention(pack, device), "flex": flex_attention_of(pack, device)}

    def one(attention: Attention) -> Callable[[], None]:
        def run() -> None:
            out = attention(*heads)
            if grad:
                torch.autograd.grad(out.sum(), heads)

        return run

    runs = {name: one(attention) for name, attention in attentions.items()}
    masks = {
        "dense mask": lambda: ancestor_mask(ends_of(pack, device)),
        "blocks": lambda: blocks_of(pack, device),
    }
    seconds = in_turns(runs, device, rounds=5) | in_turns(masks, device, rounds=5)
    row: dict[str, Value] = {"tokens": len(pack.token_ids), "rows": groups.group_size}
    row |= {f"{name}, ms": value * 1000 for name, value in seconds.items()}
    row["dense / flex"] = seconds["dense"] / seconds["flex"]
    row |= {f"{name} peak GiB": peak_gib_of(run, device) for name, run in runs.items()}
    give_back(device)
    return row


def _update(shape: Shape, groups: Groups, device: torch.device, *, compiled: bool) -> dict[str, Value]:
    """Of a whole model, as training computes it."""
    pack = one_pack(groups, vocabulary=shape.vocabulary)
    how = {"bf16": True, "recompute_layers": True, "compiled": compiled}
    policies = {
        name: make_policy(make_model(shape, device), device, blocks_from=blocks_from, **how)
        for name, blocks_from in (("dense", None), ("flex", BLOCK))
    }

    def one(name: str) -> Callable[[], None]:
        return lambda: packed_pass(policies[name], [pack])

    runs = {name: one(name) for name in policies}
    seconds = in_turns(runs, device, rounds=3)
    row: dict[str, Value] = {"tokens": len(pack.token_ids), "rows": groups.group_size, "compile": compiled}
    row |= {f"{name}, s": value for name, value in seconds.items()}
    row["dense / flex"] = seconds["dense"] / seconds["flex"]
    row |= {f"{name} peak GiB": peak_gib_of(run, device) for name, run in runs.items()}
    policies.clear()
    give_back(device)
    return row
