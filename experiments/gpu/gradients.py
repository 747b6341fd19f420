"""Part `gradients`: packs against plain rows, one at a time, in float32 and in bf16 mixed precision."""

from __future__ import annotations

import torch
from experiments.gpu.measuring import give_back
from experiments.gpu.passes import Gradients, gradients, largest_difference, make_policy, packed_pass, padded_pass
from experiments.gpu.results import Result, Settings, Value
from experiments.gpu.rows import Groups, make_rows, packs_of, row_weights
from experiments.gpu.shapes import QWEN3_0_6B, SMALL, make_model

FULL = Groups(num_groups=2, group_size=4, num_prompt=256, num_sampled=128)
TINY = Groups(num_groups=2, group_size=3, num_prompt=12, num_sampled=6)


def measure(settings: Settings) -> Result:
    """Differences of each parameter's gradient, the largest of them."""
    device = torch.device(settings.device)
    shape, groups = (SMALL, TINY) if settings.small else (QWEN3_0_6B, FULL)
    rows = make_rows(groups, vocabulary=shape.vocabulary)
    packs, weights = packs_of(rows, max_tokens=groups.num_unique), row_weights(rows)
    model = make_model(shape, device)
    found: dict[str, Gradients] = {}
    for bf16 in (False, True):
        policy = make_policy(model, device, bf16=bf16)
        packed_pass(policy, packs)
        found[f"packs {_precision(bf16)}"] = gradients(model)
        padded_pass(model, rows, weights, bf16=bf16, rows_a_forward=1)
        found[f"rows {_precision(bf16)}"] = gradients(model)
    pairs = [
        ("packs float32", "rows float32"),
        ("packs bf16", "rows bf16"),
        # What bf16 itself costs: packs are exact if they are no further from float32 than plain rows are.
        ("packs bf16", "rows float32"),
        ("rows bf16", "rows float32"),
    ]
    compared: list[dict[str, Value]] = []
    for one, other in pairs:
        name, difference = largest_difference(found[one], found[other])
        compared.append({"of": one, "against": other, "largest relative difference": difference, "parameter": name})
    del found, model, policy
    give_back(device)
    note = "||a - b|| / ||b|| of a parameter's gradient, where it is largest."
    return Result(tables={f"Gradients, {shape.name}": compared}, notes=[note])


def _precision(bf16: bool) -> str:
    return "bf16" if bf16 else "float32"
