"""Two ranks with uneven packs take the optimizer step that one rank with all of them takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator, debug_launcher
from tests.factories import make_sample, tiny_qwen

from ajet.algorithms.aggregation import batch_totals, token_weights
from ajet.algorithms.losses import LossSettings
from ajet.models.tokenizer import train_tokenizer
from ajet.training.packing import Pack, build_packs
from ajet.training.policy import OptimizerSettings, TrainablePolicy

TAGS = ("seer", "witch")
SAMPLES = [
    make_sample((1, 2, 3), (0, 1, 1)),
    make_sample((1, 2, 4, 5), (0, 0, 1, 1), repeat=1, advantage=-0.5),
    make_sample((6, 7, 8), (0, 0, 1), repeat=2, tag="witch", advantage=2.0),
]


def packs(indices: range) -> list[Pack]:
    """Packs of some samples, weighted by the totals of all: one row a pack."""
    weights = token_weights(SAMPLES, "dapo", batch_totals(SAMPLES))
    chosen = [SAMPLES[i] for i in indices]
    return build_packs(chosen, [weights[i] for i in indices], TAGS, max_tokens=1)


def step(indices: range) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    policy = TrainablePolicy(
        tiny_qwen(),
        tokenizer=train_tokenizer([], vocab_size=300, max_context=64),
        accelerator=Accelerator(cpu=True),
        temperature=1.0,
        loss=LossSettings(),
        optimizer=OptimizerSettings(
            learning_rate=1e-2, weight_decay=0.0, warmup_steps=0, decay_steps=None, max_grad_norm=1.0
        ),
        reference=None,
        num_threads=1,
    )
    metrics = policy.train_batch([packs(indices)], TAGS)
    return metrics, {name: tensor.clone() for name, tensor in policy.merged_weights()}


def one_of_two(folder: str) -> None:
    rank = Accelerator(cpu=True).process_index
    torch.save(step(range(0, 2) if rank == 0 else range(2, 3)), Path(folder) / f"{rank}.pt")


@pytest.mark.slow
def test_two_ranks_with_uneven_packs_step_as_one(tmp_path: Path) -> None:
    debug_launcher(one_of_two, args=(str(tmp_path),), num_processes=2)
    metrics, weights = step(range(3))
    for rank in (0, 1):
        rank_metrics, rank_weights = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert rank_metrics["policy/witch/entropy"] == pytest.approx(metrics["policy/witch/entropy"])
        assert rank_metrics["policy/grad_norm"] == pytest.approx(metrics["policy/grad_norm"], rel=1e-5)
        assert all(torch.allclose(rank_weights[name], weights[name], atol=1e-6) for name in weights)
