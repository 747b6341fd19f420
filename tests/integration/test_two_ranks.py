"""Two ranks with uneven packs take the optimizer step that one rank with all of them takes, whole weights or shares;
and their calls cost what they cost one."""

from __future__ import annotations

import os
import socket
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from recipes.small_models.tokenizer import train_tokenizer
from tests.factories import TASK, make_call, make_episode, make_sample, tiny_qwen
from torch.multiprocessing.spawn import spawn

from ajet.config.algorithm import AlgorithmConfig
from ajet.config.hardware import PackCosts
from ajet.config.root import Config
from ajet.records import EpisodeGroup
from ajet.train.algorithms.aggregations.dapo import dapo
from ajet.train.algorithms.rule import learning_rule
from ajet.train.algorithms.weights import batch_totals, token_weights
from ajet.train.lora import adapter_state, with_lora
from ajet.train.packing import Pack, build_packs, shared_out
from ajet.train.policy import TrainablePolicy
from ajet.train.ranks import ALONE, Ranks
from ajet.train.reference import CallCosts, kl_costs

TAGS = ("seer", "witch")
BY_COST = -1
"""Instead of a number of samples: packs as a run shares them out."""
RULES = {
    "kl": AlgorithmConfig(learning_rate=1e-2, kl_coef=0.1),
    # After each training step the reference goes half of the way.
    "following": AlgorithmConfig(learning_rate=1e-2, kl_coef=0.1, ref_sync_every=1, ref_sync_alpha=0.5),
    # All entropies are at most log 12: each step pays more for them than the one before.
    "entropy": AlgorithmConfig(learning_rate=1e-2, entropy_target=3.0, entropy_coef_delta=0.1),
    # What is decided by all tokens of a step, and what is measured before its first epoch moves the policy.
    "chosen": AlgorithmConfig(
        learning_rate=1e-2,
        num_epochs=2,
        top_entropy_quantile=0.6,
        kl_cov_share=0.3,
        correction_level="sequence",
        tis_cap=2.0,
    ),
}
CASES = [
    *(
        ("kl", num_first, adapters, sharded)
        for num_first in (2, 0)
        for adapters in (False, True)
        for sharded in (False, True)
    ),
    ("kl", BY_COST, False, False),
    ("kl", BY_COST, False, True),
    ("following", 0, False, False),  # refused where weights are shared out
    *((rule, 0, False, sharded) for rule in ("entropy", "chosen") for sharded in (False, True)),
]
"""By which rule, how many of the samples the first rank has, the second having the others; whether adapters are
trained, and whether each rank has a share of the weights only."""
COSTS = [(num_episodes, sharded) for num_episodes in (3, 1) for sharded in (False, True)]
"""How many episodes there are, of which a rank has none where it is one, and whether weights are shared out."""
Stepped = tuple[dict[str, float], dict[str, torch.Tensor], list[torch.Tensor]]
"""Metrics of a second step, weights after it, and Adam's first moments."""
SAMPLES = [
    make_sample((1, 2, 3), (0, 1, 1)),
    make_sample((1, 2, 4, 5), (0, 0, 1, 1), repeat=1, advantage=-0.5),
    make_sample((6, 7, 8), (0, 0, 1), repeat=2, tag="witch", advantage=2.0),
]


def packs(indices: range = range(len(SAMPLES))) -> list[Pack]:
    """Packs of some samples, weighted by the totals of all: one row a pack."""
    weights = token_weights(SAMPLES, dapo, batch_totals(SAMPLES))
    chosen = [SAMPLES[i] for i in indices]
    return build_packs(chosen, [weights[i] for i in indices], TAGS, max_tokens=1)


def packs_of_rank(rank: int, num_first: int) -> list[Pack]:
    """One rank's in a case."""
    if num_first == BY_COST:
        return shared_out(packs(), 2, PackCosts())[rank]
    return packs(range(num_first) if rank == 0 else range(num_first, len(SAMPLES)))


def make_policy(algorithm: AlgorithmConfig, *, adapters: bool = False, sharded: bool = False) -> TrainablePolicy:
    torch.manual_seed(0)  # adapters are drawn
    return TrainablePolicy(
        with_lora(tiny_qwen(), rank=2, alpha=4.0, targets=["q_proj"]) if adapters else tiny_qwen(),
        tokenizer=train_tokenizer([], vocab_size=300, max_context=64),
        accelerator=Accelerator(cpu=True),
        rule=learning_rule(algorithm),
        temperature=1.0,
        total_steps=1,
        reference=None if adapters else tiny_qwen(),
        recompute_layers=sharded,
        num_threads=1,
        sharded=sharded,
    )


def step(rule: str, own: list[Pack], *, adapters: bool = False, sharded: bool = False) -> Stepped:
    policy = make_policy(RULES[rule], adapters=adapters, sharded=sharded)
    policy.train_batch([own], TAGS, num_steps_done=0)
    state = deepcopy(policy.state_dict())  # on one rank it is the live tensors
    policy.train_batch([own], TAGS, num_steps_done=1)
    policy.load_state_dict(state)
    # From the state that was taken whole and shared out again.
    metrics = policy.train_batch([own], TAGS, num_steps_done=1)
    moments = policy.state_dict()["optimizer"]["state"]
    published = [*policy.merged_weights(), *(adapter_state(policy.model) if adapters else ())]
    weights = {name: tensor.clone() for name, tensor in published}
    return metrics, weights, [moments[i]["exp_avg"] for i in sorted(moments)]


def call_costs(num_episodes: int, ranks: Ranks = ALONE, *, sharded: bool = False) -> CallCosts:
    """`algorithm.kl_in=reward`, of so many episodes with a call each; a row a pack."""
    calls = [
        make_call((1,), (2, 3)),
        make_call((1, 2), (4, 5), logprob=-2.5),
        make_call((6, 7), (8,), agent="P2", tag="witch", logprob=-0.5),
    ]
    episodes = [
        make_episode(i, {call.agent_name: 1.0}, call, tags={call.agent_name: call.target_tag})
        for i, call in enumerate(calls[:num_episodes])
    ]
    algorithm = AlgorithmConfig(kl_coef=0.5, kl_in="reward", max_pack_tokens=1)
    return kl_costs(
        [EpisodeGroup(task=TASK, episodes=tuple(episodes))],
        make_policy(algorithm, sharded=sharded),
        ranks,
        Config(algorithm=algorithm, total_steps=1),
        step=0,
        reply_masks=None,
    )


def run_rank(rank: int, port: int, folder: str) -> None:
    """One of two processes; plays every case, since a process joins its group once."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for rule, num_first, adapters, sharded in CASES:
        stepped = step(rule, packs_of_rank(rank, num_first), adapters=adapters, sharded=sharded)
        torch.save(stepped, Path(folder) / f"{rule}-{num_first}-{adapters}-{sharded}-{rank}.pt")
    for num_episodes, sharded in COSTS:
        costs = call_costs(num_episodes, Ranks(rank=rank, size=2), sharded=sharded)
        torch.save((costs.of_calls, costs.metrics), Path(folder) / f"costs-{num_episodes}-{sharded}-{rank}.pt")
    torch.distributed.destroy_process_group()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
def test_two_ranks_with_uneven_packs_step_as_one(tmp_path: Path) -> None:
    # Fresh processes: forked ones would inherit this one's Accelerate state, which knows of one rank only.
    spawn(run_rank, args=(free_port(), str(tmp_path)), nprocs=2)
    alone = {
        key: step(key[0], packs(), adapters=key[1]) for key in {(rule, adapters) for rule, _, adapters, _ in CASES}
    }
    for rule, num_first, adapters, sharded in CASES:
        metrics, weights, moments = alone[rule, adapters]
        for rank in (0, 1):
            file = tmp_path / f"{rule}-{num_first}-{adapters}-{sharded}-{rank}.pt"
            rank_metrics, rank_weights, rank_moments = torch.load(file, weights_only=True)
            assert rank_metrics == pytest.approx(metrics, rel=1e-4, abs=1e-6), file.stem
            assert all(torch.allclose(rank_weights[name], weights[name], atol=1e-6) for name in weights), file.stem
            assert all(torch.allclose(*pair, atol=1e-6) for pair in zip(rank_moments, moments, strict=True)), file.stem
    assert alone["entropy", False][0]["policy/witch/entropy_coef"] == pytest.approx(0.2), (
        "twice .1: what was loaded again had one step"
    )
    for num_episodes, sharded in COSTS:
        costs = call_costs(num_episodes)
        assert len(costs.of_calls) == num_episodes
        for rank in (0, 1):
            of_calls, of_metrics = torch.load(tmp_path / f"costs-{num_episodes}-{sharded}-{rank}.pt", weights_only=True)
            assert of_calls == pytest.approx(costs.of_calls, abs=1e-6)
            assert of_metrics == pytest.approx(costs.metrics, abs=1e-6)
