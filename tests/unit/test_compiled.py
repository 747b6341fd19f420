"""Layers that torch compiles: the same gradients, on a CPU by the form that is traced and not yet made into kernels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from accelerate import Accelerator
from tests.factories import make_sample, tiny_qwen

from ajet.errors import ConfigError
from ajet.train.compiled import compile_layers
from ajet.train.packing import build_packs
from ajet.train.scoring import PackScorer

ROWS = [make_sample((1, 2, 3, 4), (0, 1, 1, 1)), make_sample((1, 2, 5), (0, 0, 1), repeat=1, advantage=-1.0)]


def one_layer() -> Any:
    model = tiny_qwen()
    del model.model.layers[1:]
    model.config.num_hidden_layers = 1
    return model


@pytest.mark.slow
def test_compiled_layers_give_the_gradient_of_plain_ones() -> None:
    (pack,) = build_packs(ROWS, [1.0, 1.0], ["seer"], max_tokens=40)
    assert not pack.is_chain
    gradients = []
    for compiled in (False, True):
        model = one_layer()
        scorer = PackScorer(model, Accelerator(cpu=True), temperature=0.7)
        if compiled:
            compile_layers(model)
        # What a layer is traced to runs at its first call; kernels, which take minutes to compile, from the second on.
        with torch.compiler.set_stance("aot_eager_then_compile"):
            logp_E = scorer.score(pack).logp_E
        (logp_E * torch.linspace(-1, 2, len(logp_E))).sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
        assert hasattr(model.model.layers[0].forward, "get_compiler_config") == compiled  # it is torch.compile's
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-5, atol=1e-5)


def test_layers_that_are_not_known_are_not_compiled() -> None:
    model = tiny_qwen()
    model.model.layers = torch.nn.ModuleList()
    with pytest.raises(ConfigError, match=r"hardware\.compile=true"):
        compile_layers(model)
