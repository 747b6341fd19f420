"""Linear layers that multiply with oneDNN, which torch keeps for other number formats.

In: a float32 model on the CPU. Out: the same model with the same parameters, whose linear layers are faster: torch
hands float32 products to MKL, which on an AMD core with AVX-512 took twice as long as oneDNN for a small model's
shapes (a forward and backward of 900 tokens of `model=tiny`: 0.149 s instead of 0.193 s, one thread, EPYC), and on one
without it 10 to 30% less. Sums are float32
in another order. `experiments/onednn_linear` measures both. Left out: attention, which does not go through these
layers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def with_onednn_linear(model: nn.Module) -> nn.Module:
    """Exchange, in place, every float32 linear layer without bias on the CPU, if torch has oneDNN; returns `model`."""
    if is_available():
        for parent in list(model.modules()):
            for name, layer in parent.named_children():
                if type(layer) is nn.Linear and _fits(layer):
                    setattr(parent, name, OneDnnLinear(layer))
    return model


def is_available() -> bool:
    """Whether this torch has oneDNN's product; it is not a public operation, and another version may have moved it."""
    return hasattr(torch.ops.mkldnn, "_linear_pointwise")


def pays() -> bool:
    """Whether this processor multiplies faster so: with AVX-512, which MKL does not use on AMD's; with AVX2 alone MKL
    is the faster of the two."""
    return is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"


def _fits(layer: nn.Linear) -> bool:
    weight = layer.weight
    return layer.bias is None and weight.dtype == torch.float32 and weight.device.type == "cpu"


class OneDnnLinear(nn.Linear):
    """A linear layer without bias that shares another's weight."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=False, device="meta")
        self.weight = layer.weight

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        output: Tensor = _Product.apply(input, self.weight)  # type: ignore[no-untyped-call]
        return output


class _Product(torch.autograd.Function):
    """x [..., K] times the transpose of w [N, K]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return times_transposed(x, w)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (grad,) = grads
        x, w = ctx.saved_tensors
        grad_x = times_transposed(grad, w.t()) if ctx.needs_input_grad[0] else None
        grad_w = times_transposed(grad.flatten(0, -2).t(), x.flatten(0, -2).t()) if ctx.needs_input_grad[1] else None
        return grad_x, grad_w


def times_transposed(a: Tensor, b: Tensor) -> Tensor:
    """a [..., K] times the transpose of b [N, K], in float32 on the CPU; without a gradient."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
    return product
