"""What learns on a Tinker server learns what a policy in this process does, from the same rows and the same start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from peft import PeftModel
from recipes.tinker_server.process import TinkerServer
from tests.factories import make_sample
from transformers import AutoModelForCausalLM, AutoTokenizer

from ajet.config.algorithm import AlgorithmConfig
from ajet.config.model import resolve_model_path
from ajet.engine.tinker import TinkerConfig, TinkerEngineConfig
from ajet.engine.tinker_engine import TinkerEngine
from ajet.errors import EngineError
from ajet.records import TrainingSample
from ajet.train.algorithms.rule import learning_rule
from ajet.train.algorithms.weights import batch_totals
from ajet.train.packing import Pack, build_packs
from ajet.train.policy import TrainablePolicy
from ajet.train.tinker_adapters import write_adapter
from ajet.train.tinker_learner import TinkerLearner

MODEL = resolve_model_path("builtin:tiny")
TAGS = ("seer", "witch")
RANK = 4
ROWS = [
    ((3, 5, 7, 9, 11, 13), (0, 0, 0, 1, 1, 1), 1.0, "seer"),
    ((3, 5, 7, 9, 12, 14), (0, 0, 0, 1, 1, 1), -0.5, "seer"),
    ((4, 6, 8, 10), (0, 0, 1, 1), 0.7, "witch"),
    ((4, 6, 9, 10), (0, 0, 1, 1), -1.2, "witch"),
]
"""Ids, which of them were sampled, advantage, tag: two lengths, for each is compiled on its own."""
PLAIN = AlgorithmConfig(learning_rate=1e-3, max_grad_norm=1e9)
CAPPED = replace(PLAIN, loss="cispo", loss_args={"cap": 1.0})
"""A cap that holds about half of the tokens once the policy has moved."""
EVERYTHING = AlgorithmConfig(
    learning_rate=1e-3,
    max_grad_norm=1e9,
    loss="gspo",
    aggregation="dapo",
    correction_level="sequence",
    tis_cap=2.0,
    kl_coef=0.3,
    kl_bias_correction=True,
    weight_decay=0.01,
    num_epochs=2,
)


@pytest.fixture(scope="module")
def known(tinker_server: TinkerServer) -> Iterator[TinkerEngine]:
    """A server that nothing has to be found out of, which saves probes."""
    with closing(engine_at(tinker_server, normalization="sequence_mean", loss="linearised")) as engine:
        yield engine


def engine_at(server: TinkerServer, *, normalization: str = "measured", loss: str = "auto") -> TinkerEngine:
    settings = TinkerConfig(base_url=server.url, timeout_s=120, normalization=normalization, loss=loss)
    return TinkerEngine(TinkerEngineConfig(service=settings), MODEL, max_context=512)


def learner_of(engine: TinkerEngine, algorithm: AlgorithmConfig, said: list[str] | None = None) -> TinkerLearner:
    return TinkerLearner(
        engine,
        rule=learning_rule(algorithm),
        rank=RANK,
        seed=1,
        total_steps=10,
        dtype="float32",
        vocab_size=524,
        tokenizer=AutoTokenizer.from_pretrained(MODEL),
        model_path=MODEL,
        say=print if said is None else said.append,
    )


def local_policy(adapter: Path, algorithm: AlgorithmConfig) -> TrainablePolicy:
    model = PeftModel.from_pretrained(base_model(), str(adapter), is_trainable=True)
    return TrainablePolicy(
        model,
        tokenizer=None,
        accelerator=Accelerator(cpu=True),
        rule=learning_rule(algorithm),
        temperature=1.0,
        total_steps=10,
        reference=None,
        recompute_layers=False,
        num_threads=1,
    )


def base_model() -> Any:
    return AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)


def exported(learner: TinkerLearner, engine: TinkerEngine, folder: Path) -> Path:
    write_adapter(engine.service.archive(learner.state_dict()["sampler_path"]), folder, base_model=MODEL)
    return folder


def adapters(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if ".lora_" in name}


def is_alike(name: str) -> bool:
    """Whether a tensor of adapters is the server's, too: it computes q, k and v at once, and gate and up, with one
    lora_A for all, whose gradient is the sum of theirs."""
    return ".lora_B." in name or "o_proj" in name or "down_proj" in name


def samples(model: Any) -> list[TrainingSample]:
    """The rows, as if the model had sampled them."""
    return [
        make_sample(ids, trained, advantage=advantage, tag=tag, logprobs=row_logps(model, ids))
        for ids, trained, advantage, tag in ROWS
    ]


@torch.no_grad()
def row_logps(model: Any, ids: Sequence[int]) -> list[float]:
    logps = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0], dim=-1)
    return [0.0, *(float(logps[i, token]) for i, token in enumerate(ids[1:]))]


def packs(rows: Sequence[TrainingSample], algorithm: AlgorithmConfig) -> list[Pack]:
    weights = learning_rule(algorithm).token_weights(rows, batch_totals(rows))
    return build_packs(rows, weights, TAGS, max_tokens=1, branches=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "normalization", "own_loss"),
    [(PLAIN, "measured", "ppo"), (CAPPED, "sequence_mean", "cispo"), (EVERYTHING, "sequence_mean", None)],
)
def test_the_same_rows_move_adapters_as_in_this_process(
    tinker_server: TinkerServer, tmp_path: Path, algorithm: AlgorithmConfig, normalization: str, own_loss: str | None
) -> None:
    with closing(engine_at(tinker_server, normalization=normalization)) as engine:
        check_both_move_alike(engine, tmp_path, algorithm, own_loss)


def check_both_move_alike(
    engine: TinkerEngine, tmp_path: Path, algorithm: AlgorithmConfig, own_loss: str | None
) -> None:
    rows = samples(base_model())
    # Another step on the same rows: the policy is no longer the one that sampled, and both halves of an adapter move.
    batch = [packs(rows, algorithm)] * (2 // algorithm.num_epochs)
    said: list[str] = []
    learner = learner_of(engine, algorithm, said)
    policy = local_policy(exported(learner, engine, tmp_path / "before"), algorithm)
    start = adapters(policy.model)
    if algorithm.kl_coef:
        for found, expected in zip(*(each.reference_logps(batch[0]) for each in (learner, policy)), strict=True):
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    of_server, of_process = (each.train_batch(batch, TAGS, num_steps_done=0) for each in (learner, policy))
    told = f"the server's own {own_loss}," if own_loss else "linearised: no server's own"
    assert len(said) == 1 and told in said[0], "of the second step"
    after = adapters(local_policy(exported(learner, engine, tmp_path / "after"), algorithm).model)
    moved, expected = (
        torch.cat([(to[name] - start[name]).flatten() for name in start if is_alike(name)])
        for to in (after, adapters(policy.model))
    )
    assert torch.cosine_similarity(moved, expected, dim=0) > 0.9999
    assert float(moved.norm() / expected.norm()) == pytest.approx(1, abs=1e-3)
    not_told = {f"policy/{tag}/{name}" for tag in TAGS for name in ("entropy", "certain_fraction")}
    assert set(of_server) == set(of_process) - not_told - {"policy/grad_norm"}
    same = set(of_server) & set(of_process) - {"policy/max_logprob_gap"}
    assert {name: of_server[name] for name in same} == pytest.approx(
        {name: of_process[name] for name in same}, abs=1e-4
    )


@pytest.mark.slow
def test_a_state_that_the_server_keeps_goes_on_as_if_nothing_had_been(known: TinkerEngine) -> None:
    batch = [packs(samples(base_model()), PLAIN)]
    one, other = learner_of(known, PLAIN), learner_of(known, PLAIN)
    one.train_batch(batch, TAGS, num_steps_done=0)
    state = one.state_dict()
    other.load_state_dict(state)
    told = [each.train_batch(batch, TAGS, num_steps_done=step) for step in (1, 2) for each in (one, other)]
    assert told[0] == told[1] and told[2] == told[3]
    assert told[0] != told[2], "a step changes something"


@pytest.mark.slow
def test_a_server_that_does_not_know_its_own_samples_is_refused_before_it_learns(known: TinkerEngine) -> None:
    learner = learner_of(known, PLAIN)
    with pytest.raises(EngineError, match=r"other log-probabilities than it sampled with.*max_logprob_gap"):
        learner.train_batch(
            [packs([make_sample((3, 5, 7), (0, 0, 1), logprobs=(0, 0, -1.0))], PLAIN)], TAGS, num_steps_done=0
        )
