"""Several epochs over a batch: against a plain torch loop over rows, written out by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from tests.factories import make_sample, tiny_qwen
from tests.unit.test_policy_gradient import TAGS, make_policy

from ajet.config.algorithm import AlgorithmConfig
from ajet.config.algorithm_checks import check_algorithm
from ajet.errors import ConfigError
from ajet.records import TrainingSample
from ajet.train.algorithms.rule import learning_rule
from ajet.train.algorithms.weights import batch_totals
from ajet.train.optimizer import kl_factor, rate_factor
from ajet.train.packing import Pack, build_packs

PLAIN = AlgorithmConfig(num_epochs=2, num_minibatches=2, learning_rate=1e-3, clip_high=0.3, max_grad_norm=1e9)
TEMPERATURE = 0.7


def minibatches() -> list[list[TrainingSample]]:
    """Two of two rows, each an episode that sampled its last two tokens."""
    return [
        [make_sample((1, 2, 3, 4), (0, 0, 1, 1)), make_sample((1, 2, 5, 6), (0, 0, 1, 1), repeat=1, advantage=-0.5)],
        [
            make_sample((7, 2, 3, 8), (0, 0, 1, 1), repeat=2, advantage=2.0),
            make_sample((7, 9, 4, 3), (0, 0, 1, 1), repeat=3, advantage=-1.0),
        ],
    ]


def logps(model: Any, row: TrainingSample) -> torch.Tensor:
    """Of the row's last two tokens."""
    logits = model(input_ids=torch.tensor([row.token_ids])).logits[0, 1:3].float()
    return torch.log_softmax(logits / TEMPERATURE, dim=-1)[[0, 1], list(row.token_ids[2:])]


def sampled(rows: list[TrainingSample], model: Any, gap: float) -> list[TrainingSample]:
    """The rows as if an engine had sampled them that is `gap` surer of each token than the model."""
    with torch.no_grad():
        return [
            dataclasses.replace(row, logprobs=(0.0, 0.0, *(float(logp) + gap for logp in logps(model, row))))
            for row in rows
        ]


def gradients_by_hand(batch: list[list[TrainingSample]], *, cap: float | None) -> list[dict[str, torch.Tensor]]:
    """Of each optimizer step, in the order in which they are taken."""
    model = tiny_qwen()
    adam = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0)
    with torch.no_grad():
        old = [[logps(model, row) for row in rows] for rows in batch]
    found = []
    for _ in range(2):
        for rows, olds in zip(batch, old, strict=True):
            adam.zero_grad()
            for row, logp_old in zip(rows, olds, strict=True):
                ratio, advantage = torch.exp(logps(model, row) - logp_old), row.advantages[-1]
                loss = -torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.3) * advantage)
                if cap is not None:
                    loss = loss * torch.exp(logp_old - torch.tensor(row.logprobs[2:])).clamp(max=cap)
                (loss.mean() / 2).backward()
            found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
            adam.step()
    return found


def packs_of(batch: list[list[TrainingSample]]) -> list[list[Pack]]:
    rule = learning_rule(PLAIN)
    return [build_packs(rows, rule.token_weights(rows, batch_totals(rows)), TAGS, max_tokens=100) for rows in batch]


def gradients_of_ajet(batch: list[list[TrainingSample]], algorithm: AlgorithmConfig) -> list[dict[str, torch.Tensor]]:
    model = tiny_qwen()
    found: dict[str, list[torch.Tensor]] = {}
    for name, parameter in model.named_parameters():
        found[name] = []
        parameter.register_hook(lambda gradient, to=found[name]: to.append(gradient.clone()))
    metrics = make_policy(model, algorithm=algorithm).train_batch(packs_of(batch), TAGS, num_steps_done=0)
    assert metrics["policy/optimizer_steps"] == 4.0
    return [{name: gradients[i] for name, gradients in found.items()} for i in range(4)]


@pytest.mark.parametrize(("cap", "gap"), [(None, 0.0), (1.5, -0.3)])
def test_each_step_of_each_epoch_has_the_gradient_of_a_plain_loop(cap: float | None, gap: float) -> None:
    batch = [sampled(rows, tiny_qwen(), gap) for rows in minibatches()]
    expected = gradients_by_hand(batch, cap=cap)
    found = gradients_of_ajet(batch, dataclasses.replace(PLAIN, tis_cap=cap))
    for step, (ours, plain) in enumerate(zip(found, expected, strict=True)):
        for name, gradient in plain.items():
            gap_to_it = float((ours[name] - gradient).norm()) / max(float(gradient.norm()), 1e-6)
            assert gap_to_it < 1e-5, (step, name, gap_to_it)
    # An epoch later the gradient is another, or nothing would have been tested.
    assert any(not torch.allclose(expected[0][name], expected[2][name], rtol=0.01) for name in expected[0])


def test_what_tells_of_the_sampler_is_of_the_first_step_alone() -> None:
    batch = [sampled(rows, tiny_qwen(), -0.5) for rows in minibatches()]
    told = [
        make_policy(tiny_qwen(), algorithm=dataclasses.replace(PLAIN, num_epochs=epochs)).train_batch(
            packs_of(batch), TAGS, num_steps_done=0
        )
        for epochs in (1, 3)
    ]
    assert [line["policy/optimizer_steps"] for line in told] == [2.0, 6.0]
    # k3 of pi / mu = e^.5: e^.5 - 1 - .5, whatever came later.
    assert [line["policy/seer/mismatch_kl"] for line in told] == pytest.approx([0.14872] * 2, abs=1e-4)
    assert [line["policy/max_logprob_gap"] for line in told] == pytest.approx([0.5] * 2, abs=1e-4)


def test_schedules_count_the_minibatches_of_all_epochs() -> None:
    # Two minibatches, three epochs: six optimizer steps a training step.
    rule = AlgorithmConfig(
        num_epochs=3, num_minibatches=2, warmup_steps=1, lr_schedule="linear", kl_coef=1.0, kl_schedule="linear"
    )
    assert rate_factor(5, rule, 3) == pytest.approx(6 / 7)
    assert [rate_factor(step, rule, 3) for step in (6, 12, 18)] == [1.0, 0.5, 0.0]
    assert [kl_factor(step, rule, 2) for step in (0, 6, 12)] == [1.0, 0.5, 0.0]
    rule = dataclasses.replace(rule, learning_rate=1.0)
    policy = make_policy(tiny_qwen(), algorithm=rule, total_steps=3)
    empty: list[list[Pack]] = [[], []]
    rates = [policy.train_batch(empty, TAGS, num_steps_done=i)["policy/learning_rate"] for i in range(3)]
    assert rates == pytest.approx([1 / 7, 1.0, 0.5])


@pytest.mark.parametrize("name", ["num_epochs", "num_minibatches"])
def test_a_loss_without_a_ratio_is_refused_several_updates(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}=2 does not go with algorithm\.loss=reinforce"):
        check_algorithm(AlgorithmConfig(loss="reinforce", **{name: 2}))  # type: ignore[arg-type]
    check_algorithm(AlgorithmConfig(loss="rloo", **{name: 2}))  # type: ignore[arg-type]
