"""FlexAttention with gradients on a CPU, for tests.

`torch.nn.attention.flex_attention` refuses gradients there; the operator beneath it, which this calls, has them in its
uncompiled form. It takes the place of transformers' own in their table of implementations, as anybody's may.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._higher_order_ops.flex_attention import flex_attention as flex_operator
from torch.nn.attention.flex_attention import BlockMask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

OPTIONS = {"PRESCALE_QK": False, "OUTPUT_LOGSUMEXP": True, "OUTPUT_MAX": False, "BACKEND": "AUTO"}


class FlexOnCpu:
    """Counts how often a layer came by."""

    def __init__(self, sharper: float) -> None:
        self.sharper = sharper
        self.num_calls = 0

    def __call__(
        self,
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: BlockMask,
        scaling: float,
        **_: Any,
    ) -> tuple[Tensor, None]:
        self.num_calls += 1
        group = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
        scale = self.sharper * scaling
        with torch.autocast("cpu", enabled=False):
            output: Tensor = flex_operator(query, key, value, _unchanged, attention_mask.as_tuple(), scale, OPTIONS)[0]
        return output.transpose(1, 2).contiguous(), None


def _unchanged(score: Tensor, *_: Tensor) -> Tensor:
    return score


@contextmanager
def flex_on_cpu(*, sharper: float = 1.0) -> Iterator[FlexOnCpu]:
    """Within it, blocks go by the uncompiled operator; `sharper` than one, it is wrong."""
    attention = FlexOnCpu(sharper)
    ALL_ATTENTION_FUNCTIONS["flex_attention"] = attention
    try:
        yield attention
    finally:
        ALL_ATTENTION_FUNCTIONS.pop("flex_attention")
