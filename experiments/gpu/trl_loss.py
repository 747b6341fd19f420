"""Part `trl_loss`: the same rows by ajet's packs and by the loss of TRL's `GRPOTrainer`, seconds and gradients.

TRL 1.16 is what the numbers are meant for; where it is not installed, that is all there is to say.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from experiments.gpu.measuring import give_back, in_turns
from experiments.gpu.passes import gradients, largest_difference, make_policy, packed_pass
from experiments.gpu.results import Result, Settings, Value
from experiments.gpu.rows import Groups, make_rows, packs_of
from experiments.gpu.shapes import QWEN3_0_6B, SMALL, make_model
from experiments.grpo_by_trl import loss_and_backward
from recipes.small_models.tokenizer import train_tokenizer

TREES = Groups(num_groups=2, group_size=8, num_prompt=1536, num_sampled=320)
ROWS = Groups(num_groups=4, group_size=1, num_prompt=512, num_sampled=512)
"""Nothing is shared."""
TINY = Groups(num_groups=2, group_size=2, num_prompt=12, num_sampled=6)
ROWS_A_FORWARD = 2


def measure(settings: Settings) -> Result:
    """Rows that share prefixes, and rows that do not."""
    absent = [package for package in ("trl", "datasets") if find_spec(package) is None]
    if absent:
        return Result(notes=[f"not measured: {' and '.join(absent)} not installed"])
    device = torch.device(settings.device)
    cases = {"shared prompts": TINY} if settings.small else {"shared prompts": TREES, "nothing shared": ROWS}
    rows: list[dict[str, Value]] = []
    for name, groups in cases.items():
        rows.append({"rows": name} | _compared(groups, settings.small, device))
        give_back(device)
    return Result(
        tables={"Loss and backward, bf16": rows}, notes=["Gap: ||a - b|| / ||b|| of a gradient, the largest."]
    )


def _compared(groups: Groups, small: bool, device: torch.device) -> dict[str, Value]:
    shape = SMALL if small else QWEN3_0_6B
    rows = make_rows(groups, vocabulary=shape.vocabulary)
    # Each after the other: both set up accelerate for the process.
    model = make_model(shape, device)
    by_trl = loss_and_backward(
        model,
        rows,
        tokenizer=train_tokenizer([], vocab_size=300, max_context=64),
        device=device,
        rows_a_microbatch=ROWS_A_FORWARD,
        bf16=True,
    )
    by_trl()
    of_trl = gradients(model)
    policy = make_policy(model, device, bf16=True)
    packs = packs_of(rows, max_tokens=groups.num_unique)
    packed_pass(policy, packs)
    name, gap = largest_difference(gradients(model), of_trl)
    seconds = in_turns({"ajet": lambda: packed_pass(policy, packs), "TRL": by_trl}, device, rounds=1 if small else 3)
    return {
        "ajet, s": seconds["ajet"],
        "TRL, s": seconds["TRL"],
        "TRL / ajet": seconds["TRL"] / seconds["ajet"],
        "gap": gap,
        "parameter": name,
    }
