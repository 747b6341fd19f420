"""Part `attention`: a tree by a dense mask and by FlexAttention's blocks, on the same pack.

In: where each token's subtree ends. Out: what attention gives, by either way, and how long it takes. k is an ancestor
of q, or q itself, where k <= q < ends[k]: two comparisons say it of any pair, so blocks of the mask that are empty are
found without making the mask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from experiments.gpu.measuring import give_back, in_turns, peak_gib_of
from experiments.gpu.results import Result, Settings, Value
from experiments.gpu.rows import Groups, make_rows, packs_of
from experiments.gpu.shapes import QWEN3_0_6B, SMALL, Shape
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from ajet.train.attention import ancestor_mask
from ajet.train.packing import subtree_ends

FULL = (
    Groups(num_groups=1, group_size=8, num_prompt=1536, num_sampled=320),
    Groups(num_groups=1, group_size=8, num_prompt=4096, num_sampled=1536),
    Groups(num_groups=1, group_size=32, num_prompt=4096, num_sampled=384),
)
TINY = (Groups(num_groups=1, group_size=3, num_prompt=24, num_sampled=8),)
EXACT = Groups(num_groups=1, group_size=4, num_prompt=256, num_sampled=192)
"""Small enough for float32, in which gradients are compared."""

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


def tree_block_mask(ends_U: Tensor) -> BlockMask:
    """FlexAttention's mask of a pack, on the device of `ends_U` (`subtree_ends`)."""

    def is_ancestor(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (k <= q) & (q < ends_U[k])

    num = len(ends_U)
    return create_block_mask(is_ancestor, None, None, num, num, device=ends_U.device)


def dense_attention(ends_U: Tensor) -> Attention:
    """As ajet computes it today: a mask of U x U."""
    mask_UU = ancestor_mask(ends_U)
    return lambda q, k, v: scaled_dot_product_attention(q, k, v, attn_mask=mask_UU, enable_gqa=True)


def flex_attention_of(ends_U: Tensor) -> Attention:
    """By blocks: compiled on a GPU; on a CPU torch's own eager form, which has no backward."""
    kernel: Any = torch.compile(flex_attention, dynamic=False) if ends_U.device.type == "cuda" else flex_attention
    blocks = tree_block_mask(ends_U)
    return lambda q, k, v: kernel(q, k, v, block_mask=blocks, enable_gqa=True)


def measure(settings: Settings) -> Result:
    """Equality, then speed and memory where there is a GPU."""
    device = torch.device(settings.device)
    shape = SMALL if settings.small else QWEN3_0_6B
    equality = _equality(shape, TINY[0] if settings.small else EXACT, device)
    timed = [_timed(shape, groups, device) for groups in (TINY if settings.small else FULL)]
    notes = [] if device.type == "cuda" else ["FlexAttention has no backward on a CPU: forward alone, and eager."]
    return Result(tables={"Equality with the dense mask": equality, "One layer's attention, bf16": timed}, notes=notes)


def ends_of(groups: Groups, device: torch.device) -> Tensor:
    """Where subtrees of one pack of these rows end."""
    (pack,) = packs_of(make_rows(groups, vocabulary=1 << 15), max_tokens=groups.num_unique)
    return torch.from_numpy(subtree_ends(pack.parents)).to(device)


def random_heads(shape: Shape, num: int, device: torch.device, dtype: torch.dtype, *, grad: bool) -> list[Tensor]:
    """Queries, keys and values [1, heads, U, size] of one layer."""
    draw = torch.Generator(device).manual_seed(0)
    return [
        torch.randn(1, heads, num, shape.head_size, generator=draw, device=device, dtype=dtype, requires_grad=grad)
        for heads in (shape.num_heads, shape.num_kv_heads, shape.num_kv_heads)
    ]


def _equality(shape: Shape, groups: Groups, device: torch.device) -> list[dict[str, Value]]:
    ends_U = ends_of(groups, device)
    grad = device.type == "cuda"
    rows: list[dict[str, Value]] = []
    for dtype in (torch.float32, torch.bfloat16):
        heads = random_heads(shape, len(ends_U), device, dtype, grad=grad)
        outputs: list[list[Tensor]] = []
        for attention in (dense_attention(ends_U), flex_attention_of(ends_U)):
            out = attention(*heads)
            # Sums of squares, so that each output has a gradient of its own.
            of_inputs = torch.autograd.grad(out.float().square().sum(), heads) if grad else ()
            outputs.append([out.detach(), *of_inputs])
        row: dict[str, Value] = {"tokens": len(ends_U), "precision": str(dtype).removeprefix("torch.")}
        for name, dense, flex in zip(("output", "dq", "dk", "dv"), *outputs, strict=False):
            row[name] = float((flex.float() - dense.float()).norm() / dense.float().norm())
        rows.append(row)
    return rows


def _timed(shape: Shape, groups: Groups, device: torch.device) -> dict[str, Value]:
    ends_U = ends_of(groups, device)
    grad = device.type == "cuda"
    heads = random_heads(shape, len(ends_U), device, torch.bfloat16, grad=grad)
    attentions = {"dense": dense_attention(ends_U), "flex": flex_attention_of(ends_U)}

    def one(attention: Attention) -> Callable[[], None]:
        def run() -> None:
            out = attention(*heads)
            if grad:
                torch.autograd.grad(out.sum(), heads)

        return run

    runs = {name: one(attention) for name, attention in attentions.items()}
    masks = {"dense mask": lambda: ancestor_mask(ends_U), "blocks": lambda: tree_block_mask(ends_U)}
    seconds = in_turns(runs, device, rounds=5) | in_turns(masks, device, rounds=5)
    row: dict[str, Value] = {"tokens": len(ends_U), "rows": groups.group_size}
    row |= {f"{name}, ms": value * 1000 for name, value in seconds.items()}
    row["dense / flex"] = seconds["dense"] / seconds["flex"]
    row |= {f"{name} peak GiB": peak_gib_of(run, device) for name, run in runs.items()}
    give_back(device)
    return row
