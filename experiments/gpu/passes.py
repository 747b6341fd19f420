"""Loss and backward over the same rows in different ways: as packs by ajet, as padded rows by a plain model.

The loss is GRPO's where the policy has just sampled: -weight * advantage * exp(logp - logp_old) of each sampled token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor

from ajet.config.algorithm import AlgorithmConfig
from ajet.records import TrainingSample
from ajet.train.algorithms.rule import learning_rule
from ajet.train.packing import Pack
from ajet.train.policy import TrainablePolicy

Gradients = dict[str, Tensor]


def make_policy(
    model: Any,
    device: torch.device,
    *,
    bf16: bool,
    recompute_layers: bool = False,
    compiled: bool = False,
    blocks_from: int | None = None,
) -> TrainablePolicy:
    """What `hardware=gpu_1` trains: float32 weights, bf16 arithmetic if asked for."""
    # Accelerate's state is the process's, and its precision stays as it was first asked for.
    AcceleratorState._reset_state(reset_partial_state=True)
    return TrainablePolicy(
        model,
        tokenizer=None,
        accelerator=Accelerator(cpu=device.type == "cpu", mixed_precision="bf16" if bf16 else "no"),
        rule=learning_rule(AlgorithmConfig()),
        temperature=1.0,
        total_steps=100,
        reference=None,
        recompute_layers=recompute_layers,
        compiled=compiled,
        num_threads=None,
        blocks_from=blocks_from,
    )


def packed_pass(policy: TrainablePolicy, packs: Sequence[Pack]) -> None:
    """Loss and backward over packs, one at a time."""
    for pack in packs:
        logp_E = policy.forward(pack).logp_E
        # On policy by construction: the ratio is 1, and its gradient that of the log-probability.
        ratio_E = (logp_E - logp_E.detach()).exp()
        credit_E = torch.from_numpy(pack.weights * pack.advantages).to(logp_E.device, torch.float32)
        (-credit_E * ratio_E).sum().backward()  # type: ignore[no-untyped-call]


def padded_pass(
    model: Any, rows: Sequence[TrainingSample], weights: Sequence[float], *, bf16: bool, rows_a_forward: int
) -> None:
    """Loss and backward over rows that are padded on the right, some at a time; logits of sampled tokens only."""
    for first in range(0, len(rows), rows_a_forward):
        some = slice(first, first + rows_a_forward)
        _padded_loss(model, rows[some], weights[some], bf16=bf16).backward()  # type: ignore[no-untyped-call]


def _padded_loss(model: Any, rows: Sequence[TrainingSample], weights: Sequence[float], *, bf16: bool) -> Tensor:
    device = model.device
    longest = max(len(row.token_ids) for row in rows)

    def padded(values: Sequence[Sequence[float]], dtype: torch.dtype) -> Tensor:
        # In one piece, as a data collator does; a copy a row would be timed otherwise.
        return torch.tensor([[*row, *[0] * (longest - len(row))] for row in values], dtype=dtype).to(device)

    ids_BT = padded([row.token_ids for row in rows], torch.long)
    seen_BT = padded([[1] * len(row.token_ids) for row in rows], torch.long)
    credit_BT = padded(
        [[weight * value for value in row.advantages] for row, weight in zip(rows, weights, strict=True)], torch.float32
    )
    kept = longest - min(row.loss_mask.index(True) for row in rows) + 1
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        # Without padding a mask would only keep attention from its fastest kernel.
        mask = None if bool(seen_BT.all()) else seen_BT
        logits_BKV = model(input_ids=ids_BT, attention_mask=mask, use_cache=False, logits_to_keep=kept).logits
    targets_BK = ids_BT[:, longest - kept + 1 :, None]
    logp_BK = torch.log_softmax(logits_BKV[:, :-1].float(), dim=-1).gather(-1, targets_BK)[..., 0]
    ratio_BK = (logp_BK - logp_BK.detach()).exp()
    return (-credit_BT[:, longest - kept + 1 :] * ratio_BK).sum()


def gradients(model: Any) -> Gradients:
    """Of every parameter, kept; the model's own are cleared."""
    kept = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return kept


def largest_difference(found: Gradients, wanted: Gradients) -> tuple[str, float]:
    """(parameter, ||found - wanted|| / ||wanted||) where it is largest."""
    assert found.keys() == wanted.keys()
    by_name = {name: float((found[name] - g).norm() / g.norm()) for name, g in wanted.items()}
    name = max(by_name, key=lambda name: by_name[name])
    return name, by_name[name]
