"""Linear layers by oneDNN: the same numbers and names, another order of sums."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ajet.train.onednn import OneDnnLinear, is_available, with_onednn_linear

pytestmark = pytest.mark.skipif(not is_available(), reason="this torch has no oneDNN")


def both() -> tuple[nn.Linear, nn.Linear, Tensor]:
    """A plain layer, its exchanged twin with the same weights, and rows for both."""
    generator = torch.Generator().manual_seed(0)
    plain = nn.Linear(6, 4, bias=False)
    with torch.no_grad():
        plain.weight.copy_(torch.randn(4, 6, generator=generator))
    twin = nn.Linear(6, 4, bias=False)
    twin.load_state_dict(plain.state_dict())
    (exchanged,) = with_onednn_linear(nn.Sequential(twin)).children()
    assert isinstance(exchanged, OneDnnLinear)
    return plain, exchanged, torch.randn(2, 3, 6, generator=generator)


def test_outputs_and_gradients_are_those_of_a_plain_layer() -> None:
    plain, exchanged, x = both()
    seen: list[tuple[Tensor, ...]] = []
    for layer in (plain, exchanged):
        rows = x.clone().requires_grad_()
        output = layer(rows)
        output.square().sum().backward()
        assert rows.grad is not None and layer.weight.grad is not None
        seen.append((output.detach(), rows.grad, layer.weight.grad))
    for expected, actual in zip(*seen, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


def test_a_frozen_layer_still_passes_gradients_on() -> None:
    _, exchanged, x = both()
    exchanged.weight.requires_grad_(False)
    rows = x.clone().requires_grad_()
    exchanged(rows).sum().backward()
    assert exchanged.weight.grad is None
    torch.testing.assert_close(rows.grad, exchanged.weight.sum(0).expand_as(rows), rtol=1e-5, atol=1e-6)


def test_only_layers_that_it_computes_exactly_are_exchanged_and_names_and_ties_stay() -> None:
    tied = nn.Parameter(torch.ones(5, 3))
    model = nn.ModuleDict(
        {
            "embed": nn.Embedding(5, 3),
            "head": nn.Linear(3, 5, bias=False),
            "biased": nn.Linear(3, 3),
            "bf16": nn.Linear(3, 3, bias=False, dtype=torch.bfloat16),
        }
    )
    model["embed"].weight = model["head"].weight = tied
    names = list(model.state_dict())
    with_onednn_linear(model)
    kinds = {name: type(layer) for name, layer in model.items()}
    assert kinds == {"embed": nn.Embedding, "head": OneDnnLinear, "biased": nn.Linear, "bf16": nn.Linear}
    assert list(model.state_dict()) == names
    assert model["head"].weight is model["embed"].weight
