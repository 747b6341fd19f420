"""Two ranks with uneven packs take the optimizer step that one rank with all of them takes."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from recipes.small_models.tokenizer import train_tokenizer
from tests.factories import make_sample, tiny_qwen
from torch.multiprocessing.spawn import spawn

from ajet.config.algorithm import AlgorithmConfig
from ajet.train.algorithms.aggregations.dapo import dapo
from ajet.train.algorithms.rule import learning_rule
from ajet.train.algorithms.weights import batch_totals, token_weights
from ajet.train.packing import Pack, build_packs
from ajet.train.policy import TrainablePolicy

TAGS = ("seer", "witch")
CASES = (2, 0)
"""How many of the samples the first rank has; the second has the others."""
SAMPLES = [
    make_sample((1, 2, 3), (0, 1, 1)),
    make_sample((1, 2, 4, 5), (0, 0, 1, 1), repeat=1, advantage=-0.5),
    make_sample((6, 7, 8), (0, 0, 1), repeat=2, tag="witch", advantage=2.0),
]


def packs(indices: range) -> list[Pack]:
    """Packs of some samples, weighted by the totals of all: one row a pack."""
    weights = token_weights(SAMPLES, dapo, batch_totals(SAMPLES))
    chosen = [SAMPLES[i] for i in indices]
    return build_packs(chosen, [weights[i] for i in indices], TAGS, max_tokens=1)


def step(indices: range) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    policy = TrainablePolicy(
        tiny_qwen(),
        tokenizer=train_tokenizer([], vocab_size=300, max_context=64),
        accelerator=Accelerator(cpu=True),
        rule=learning_rule(AlgorithmConfig(learning_rate=1e-2)),
        temperature=1.0,
        total_steps=1,
        reference=None,
        recompute_layers=False,
        num_threads=1,
    )
    metrics = policy.train_batch([packs(indices)], TAGS, num_steps_done=0)
    return metrics, {name: tensor.clone() for name, tensor in policy.merged_weights()}


def run_rank(rank: int, port: int, folder: str) -> None:
    """One of two processes; plays every case, since a process joins its group once."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for num_first in CASES:
        own = range(num_first) if rank == 0 else range(num_first, len(SAMPLES))
        torch.save(step(own), Path(folder) / f"{num_first}-{rank}.pt")
    torch.distributed.destroy_process_group()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
def test_two_ranks_with_uneven_packs_step_as_one(tmp_path: Path) -> None:
    # Fresh processes: forked ones would inherit this one's Accelerate state, which knows of one rank only.
    spawn(run_rank, args=(free_port(), str(tmp_path)), nprocs=2)
    metrics, weights = step(range(len(SAMPLES)))
    for num_first in CASES:
        for rank in (0, 1):
            rank_metrics, rank_weights = torch.load(tmp_path / f"{num_first}-{rank}.pt", weights_only=True)
            assert rank_metrics == pytest.approx(metrics, rel=1e-4, abs=1e-6)
            assert all(torch.allclose(rank_weights[name], weights[name], atol=1e-6) for name in weights)
