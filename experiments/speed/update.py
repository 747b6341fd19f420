"""An update by ajet and by TRL on the same rows: its processor time, and whether the gradients are the same.

In: a configuration that says what to play. Out: a batch, and for each side the seconds of one loss and backward over
all of it, of processor time on one thread, which other programs hardly change. TRL is spared the rows without an
advantage.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from experiments.grpo_by_trl import loss_and_backward
from transformers import AutoTokenizer

from ajet.assemble.preflight import find_model
from ajet.assemble.trainer import build_trainer
from ajet.config.algorithm import AlgorithmConfig
from ajet.config.compose import compose
from ajet.config.saved import save
from ajet.engine.checkpoint import load_causal_lm
from ajet.records import TrainingSample
from ajet.train.algorithms.objective import objective
from ajet.train.algorithms.rule import LearningRule, learning_rule
from ajet.train.algorithms.tokens import SampledTokens
from ajet.train.algorithms.weights import batch_totals
from ajet.train.packing import Pack, build_packs
from ajet.train.policy import TrainablePolicy
from ajet.train.timeline import build_samples

MAX_PACK_TOKENS = 2048
ROWS_A_MICROBATCH = 8


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one step trains on, and the model that it was played by."""

    rows: Sequence[TrainingSample]
    """An agent's calls that continue each other are one row, as ajet trains them."""
    calls: Sequence[TrainingSample]
    """The same sampled tokens, a row a call, as a trainer has them that knows prompts and completions only."""
    model_path: str
    max_context: int
    temperature: float


def played(*overrides: str) -> Batch:
    """The rows with an advantage of one step."""
    with tempfile.TemporaryDirectory() as folder:
        config = compose([*overrides, "logger=quiet", "eval=none", "checkpoint.every=0"], run_dir=folder)
        save(config, Path(folder) / "config.yaml")
        trainer = build_trainer(config)
        with trainer.play.runtime:
            groups = trainer.play.training_step(0)
        trainer.close()
    rule = learning_rule(config.algorithm)
    rows, calls = [], []
    for group in groups:
        credit = rule.group_advantages(group)
        for episode in group.episodes:
            if episode.usable:
                advantages = credit.of_tokens[episode.repeat]
                rows += build_samples(episode, advantages)
                for call in episode.calls:
                    calls += build_samples(replace(episode, calls=(call,)), advantages)
    return Batch(
        rows=[row for row in rows if any(row.advantages)],
        calls=[row for row in calls if any(row.advantages)],
        model_path=find_model(config.model, config.engine, config.hardware),
        max_context=config.model.max_context,
        temperature=config.rollout.temperature,
    )


def packed_update(batch: Batch) -> tuple[Callable[[], None], Any]:
    """(loss and backward over the batch's packs, the model whose gradients they are)."""
    rule = learning_rule(AlgorithmConfig(aggregation="dapo"))
    policy = TrainablePolicy(
        load_causal_lm(batch.model_path, torch.float32, max_context=batch.max_context),
        tokenizer=None,
        accelerator=Accelerator(cpu=True),
        rule=rule,
        temperature=batch.temperature,
        total_steps=1,
        reference=None,
        recompute_layers=False,
        num_threads=None,
    )
    weights = rule.token_weights(batch.rows, batch_totals(batch.rows))
    tags = sorted({row.target_tag for row in batch.rows})
    packs = build_packs(batch.rows, weights, tags, max_tokens=MAX_PACK_TOKENS)

    def update() -> None:
        for pack in packs:
            _pack_loss(policy, rule, pack).backward()

    return update, policy.model


def _pack_loss(policy: TrainablePolicy, rule: LearningRule, pack: Pack) -> torch.Tensor:
    output = policy.forward(pack)
    sampled_E = output.logp_E.detach()  # on policy, as TRL takes it: the ratio is 1
    tokens = SampledTokens(
        logp=output.logp_E,
        logp_old=sampled_E,
        logp_sampled=sampled_E,
        advantages=torch.from_numpy(pack.advantages).float(),
        entropy=output.entropy_E,
        calls=torch.from_numpy(pack.calls),
    )
    loss_E, _ = rule.token_losses(tokens)
    loss_E = objective(loss_E, tokens, rule.config, kl_coef=0.0, logp_ref_E=None)
    return (torch.from_numpy(pack.weights).float() * loss_E).sum()


def trl_update(batch: Batch, rows: Sequence[TrainingSample]) -> tuple[Callable[[], None], Any]:
    """As `packed_update`, by the loss of TRL's `GRPOTrainer`, on these rows of the batch."""
    model = load_causal_lm(batch.model_path, torch.float32, max_context=batch.max_context)
    update = loss_and_backward(
        model,
        rows,
        tokenizer=AutoTokenizer.from_pretrained(batch.model_path, padding_side="left"),
        device=torch.device("cpu"),
        rows_a_microbatch=ROWS_A_MICROBATCH,
        temperature=batch.temperature,
    )
    return update, model


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One batch by both."""

    num_tokens: dict[str, int]
    """That each side computes, padding left out."""
    seconds: dict[str, float]
    """Of processor time; median by side."""
    gradient_gap: float
    """Largest difference of a gradient as a share of the largest gradient of its parameter, over TRL's sides."""


def compared(batch: Batch, *, rounds: int) -> Compared:
    """Time both in turns, `rounds` times each behind one that is not counted."""
    sides = {
        "ajet": packed_update(batch),
        "TRL, ajet's rows": trl_update(batch, batch.rows),
        "TRL, a row a call": trl_update(batch, batch.calls),
    }
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for i in range(rounds + 1):
        for name, (update, model) in sides.items():
            model.zero_grad()
            start = time.process_time()
            update()
            if i:
                taken[name].append(time.process_time() - start)
    return Compared(
        num_tokens={
            "ajet": num_unique(batch),
            "TRL, ajet's rows": sum(len(row.token_ids) for row in batch.rows),
            "TRL, a row a call": sum(len(row.token_ids) for row in batch.calls),
        },
        seconds={name: statistics.median(values) for name, values in taken.items()},
        gradient_gap=max(_gap(sides["ajet"][1], model) for name, (_, model) in sides.items() if name != "ajet"),
    )


def num_unique(batch: Batch) -> int:
    """Tokens in the batch's packs."""
    tags = sorted({row.target_tag for row in batch.rows})
    packs = build_packs(batch.rows, [1.0] * len(batch.rows), tags, max_tokens=MAX_PACK_TOKENS)
    return sum(len(pack.token_ids) for pack in packs)


def _gap(one: Any, other: Any) -> float:
    others = dict(other.named_parameters())
    return max(
        float((p.grad - others[name].grad).abs().max() / p.grad.abs().max().clamp(min=1e-12))
        for name, p in one.named_parameters()
    )
