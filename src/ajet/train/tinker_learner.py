"""A policy whose adapters are trained on a server of the Tinker API; what learns, and how much, is computed here.

In: packs that are plain rows. Out: adapters that have changed on the server, and statistics by tag, as of a policy in
this process: the server is asked for log-probabilities, the loss and its slopes are computed from them, and the slopes
sent back (`tinker_rows`). Weights never travel, but for the adapters of a checkpoint.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from tinker import types
from torch import Tensor

from ajet.engine.base import Engine
from ajet.engine.tinker_engine import TinkerEngine
from ajet.errors import EngineError, StorageError
from ajet.records import EpisodeGroup, TrainingSample
from ajet.train.algorithms.rule import LearningRule
from ajet.train.model_card import ADAPTER
from ajet.train.optimizer import ADAM_BETAS, kl_coef_of_loss, rate_factor
from ajet.train.pack_loss import pack_loss
from ajet.train.packing import Pack, build_packs
from ajet.train.scoring import PackOutput
from ajet.train.step_bounds import step_bounds
from ajet.train.tag_sums import TagSums
from ajet.train.timeline import build_samples
from ajet.train.tinker_adapters import ODD_EXPORTS, is_at_hand, merged_model, write_adapter
from ajet.train.tinker_dialect import Dialect
from ajet.train.tinker_losses import ServerLoss
from ajet.train.tinker_remote import RemoteAdapters
from ajet.train.tinker_rows import has_single_entries, learning_row, own_loss_row, scales

ADAM_EPS = 1e-8
"""As torch's AdamW has it; the client's default is another."""
NOT_MEASURED = ("entropy", "certain_fraction")
"""Of a tag's metrics: the server tells no distributions."""


class TinkerLearner:
    """Adapters on a server, trained as `ajet.train.learner.Learner` says."""

    is_sharded = False
    why_chains_only: str | None = "a Tinker server has no attention masks"
    remarks = ("rows are trained one by one, without sharing their prefixes: a Tinker server has no attention masks",)

    def __init__(
        self,
        engine: TinkerEngine,
        *,
        rule: LearningRule,
        rank: int,
        seed: int,
        total_steps: int,
        dtype: str,
        vocab_size: int,
        tokenizer: Any,
        model_path: str,
        say: Callable[[str], None],
    ) -> None:
        """Nothing is trained yet, and no adapter made: a run that is resumed brings its own.

        Args:
            engine: samples from what is published; its connection is used.
            rule: loss, corrections and optimizer.
            rank: of the adapters.
            seed: of their start.
            total_steps: training steps of the whole run, for the schedules.
            dtype: what the server computes in, for how far log-probabilities may be apart; and what merged weights are
                saved in.
            vocab_size: of the model.
            tokenizer: saved beside adapters.
            model_path: of the model beneath them, a directory here or a name.
            say: told whose loss it is, once that is known.
        """
        self._service = engine.service
        self._rule, self._algorithm = rule, rule.config
        self._rank, self._total_steps = rank, total_steps
        self._tokenizer, self._model_path = tokenizer, model_path
        self._accelerator = Accelerator(cpu=True)
        self._dtype = dtype
        self._dialect = Dialect(self._service, rule, rank=rank, dtype=dtype, vocab_size=vocab_size, say=say)
        self._adapters = RemoteAdapters(self._service, rank=rank, seed=seed)
        self._starting = RemoteAdapters(self._service, rank=1, seed=0)
        """Never trained, so that they are the starting model."""
        self._sampler_path = ""

    def make_adapters(self) -> None:
        """Make those of a new run, before anything is played for it.

        Raises:
            EngineError: the server refuses, e.g. the rank, or has no place for them.
        """
        self._adapters.make()
        if self._algorithm.kl_coef:
            self._starting.make()

    def foresee(self, group: EpisodeGroup) -> None:
        """As `Learner.foresee`: log-probabilities of the group's rows, where the loss, or what is taken from rewards,
        will be computed from them."""
        if not self._dialect.is_checked or (self._dialect.own_loss and not self._algorithm.kl_in_reward):
            return
        usable = [episode for episode in group.episodes if episode.usable]
        if not self._algorithm.kl_coef and len({reward for e in usable for reward in e.rewards.values()}) < 2:
            return  # what has no advantage is not asked for, most likely
        rows: list[TrainingSample] = []
        for episode in usable:
            nothing = {call.index: [0.0] * len(call.sampled_ids) for call in episode.calls}
            rows += build_samples(episode, nothing, mask_truncated=self._algorithm.mask_truncated)
        tags = [row.target_tag for row in rows]
        packs = build_packs(rows, [0.0] * len(rows), tags, max_tokens=1, branches=False)
        if not self._dialect.own_loss:
            self._adapters.foresee(packs)
        if self._algorithm.kl_coef:
            self._starting.foresee(packs)

    def train_batch(
        self, minibatches: Sequence[Sequence[Pack]], tags: Sequence[str], *, num_steps_done: int
    ) -> dict[str, float]:
        """As `Learner.train_batch`.

        Raises:
            EngineError: the server failed, or is not one that the loss can be trusted to. The adapters there may be
                those of a part of the step.
        """
        self._dialect.settle()
        order = [*range(len(minibatches))] * self._algorithm.num_epochs
        first = num_steps_done * len(order)
        sums, num_skipped, num_steps = TagSums(tags), 0, 0
        old = self._old_logps(minibatches)
        for step, i in enumerate(order, first):
            packs = minibatches[i]
            if not packs:
                continue
            of_step = TagSums(tags)
            if self._optimizer_step(step, packs, old[i], of_step, on_policy=not num_steps):
                sums.include(of_step)
                num_steps += 1
            else:
                num_skipped += 1
        self._starting.forget()
        metrics = {} if num_skipped and not num_steps else _measured(sums.metrics(self._accelerator), tags)
        metrics["policy/optimizer_steps"] = float(num_steps)
        metrics["policy/skipped_nonfinite"] = float(num_skipped)
        metrics["policy/learning_rate"] = self._rate(first)
        return metrics

    def _optimizer_step(
        self, step: int, packs: Sequence[Pack], old: Sequence[Tensor] | None, sums: TagSums, *, on_policy: bool
    ) -> bool:
        """Optimizer step `step` of the run; returns whether it was taken."""
        # The first step is not let to the server: what it samples with is checked before it learns from it.
        own_loss = self._dialect.own_loss
        if own_loss and self._dialect.is_checked and all(map(has_single_entries, packs)):
            return self._own_loss_step(own_loss, step, packs, sums, on_policy=on_policy)
        logps = self._adapters.logps(packs) if old is None or not on_policy else list(old)
        self._dialect.check(packs, logps)
        reference = self.reference_logps(packs) if self._algorithm.kl_in_loss else None
        kl_coef = kl_coef_of_loss(step, self._algorithm, self._total_steps)
        before = [None] * len(packs) if old is None else old
        bounds = step_bounds(self._algorithm, packs, before, entropies=None, accelerator=self._accelerator)
        slopes = []
        for i, pack in enumerate(packs):
            logp_E = logps[i].clone().requires_grad_()
            loss = pack_loss(
                self._rule,
                pack,
                PackOutput(logp_E=logp_E, entropy_E=-logps[i]),
                sums,
                old_E=None if old is None else old[i],
                reference_E=None if reference is None else reference[i],
                kl_coef=kl_coef,
                on_policy=on_policy,
                bounds=bounds,
            )
            (slope_E,) = torch.autograd.grad(loss, logp_E)
            if not bool(torch.isfinite(slope_E).all() and torch.isfinite(loss)):
                return False
            slopes.append(slope_E)
        row_scales = scales(packs, self._dialect.normalization)
        rows = [learning_row(*each) for each in zip(packs, logps, slopes, row_scales, strict=True)]
        self._adapters.learn(packs, rows, self._adam(step), loss="importance_sampling")
        return True

    def _own_loss_step(
        self, loss: ServerLoss, step: int, packs: Sequence[Pack], sums: TagSums, *, on_policy: bool
    ) -> bool:
        """As `_optimizer_step` by the server's own loss: what it says of log-probabilities is only told of."""
        if not all(bool(np.isfinite(pack.weights * pack.advantages).all()) for pack in packs):
            return False
        row_scales = scales(packs, self._dialect.normalization)
        rows = [own_loss_row(pack, scale) for pack, scale in zip(packs, row_scales, strict=True)]
        logps = self._adapters.learn(packs, rows, self._adam(step), loss=loss.name, settings=loss.settings)
        for pack, logp_E in zip(packs, logps, strict=True):
            output = PackOutput(logp_E=logp_E, entropy_E=-logp_E)
            pack_loss(self._rule, pack, output, sums, old_E=None, reference_E=None, kl_coef=0.0, on_policy=on_policy)
        return True

    def _adam(self, step: int) -> types.AdamParams:
        """The optimizer's settings at minibatch `step` of the run."""
        return types.AdamParams(
            learning_rate=self._rate(step),
            beta1=ADAM_BETAS[0],
            beta2=ADAM_BETAS[1],
            eps=ADAM_EPS,
            weight_decay=self._algorithm.weight_decay,
            grad_clip_norm=self._algorithm.max_grad_norm,
        )

    def _old_logps(self, minibatches: Sequence[Sequence[Pack]]) -> list[list[Tensor] | None]:
        """As in `ajet.train.policy`: before the first step, where they are told apart from the sampler's."""
        if not self._algorithm.corrects_sampling:
            return [None] * len(minibatches)
        return [self._adapters.logps(packs) if packs else None for packs in minibatches]

    def reference_logps(self, packs: Sequence[Pack]) -> list[Tensor]:
        """As `Learner.reference_logps`: adapters that were never trained change nothing."""
        return self._starting.logps(packs)

    call_values: None = None
    """A server gives no hidden states."""

    def _rate(self, step: int) -> float:
        return self._algorithm.learning_rate * rate_factor(step, self._algorithm, self._total_steps)

    def is_finite(self) -> bool:
        """As `Learner.is_finite`, as far as can be known: no step is taken on what is not finite."""
        return True

    def publish(self, engine: Engine, policy_version: int) -> None:
        """As `Learner.publish`; `EngineError` where the server fails."""
        assert isinstance(engine, TinkerEngine)
        engine.sample_from(self._adapters.sampler(), policy_version)

    @property
    def checkpoint_bytes(self) -> int:
        """The model with adapters merged in, where it is made: at most twice its files. Adapters are small."""
        files = Path(self._model_path).glob("*.safetensors") if is_at_hand(self._model_path) else ()
        return 2 * sum(file.stat().st_size for file in files)

    def state_dict(self, *, kept: bool = True) -> dict[str, Any]:
        """As `Learner.state_dict`: the server keeps the state, under names that no other run has.

        Raises:
            StorageError: the server did not save it.
        """
        try:
            state_path, self._sampler_path = self._adapters.save()
        except EngineError as error:
            raise StorageError(str(error)) from error
        return {
            "state_path": state_path,
            "sampler_path": self._sampler_path,
            "rank": self._rank,
            **self._dialect.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `Learner.load_state_dict`; `EngineError` where the server has the state no more."""
        self._adapters.restore(state["state_path"])
        self._sampler_path = state["sampler_path"]
        self._dialect.load_state_dict(state)

    def model_writer(self, *, kept: bool = True) -> Callable[[Path], None]:
        """As `Learner.model_writer`: the adapters of the latest `state_dict` in PEFT's format, in a folder of their
        own, and the model with them merged in, where its weights lie in a directory here."""
        path = self._sampler_path

        def write(folder: Path) -> None:
            adapter = folder / ADAPTER
            try:
                write_adapter(self._service.archive(path), adapter, base_model=self._model_path)
                if is_at_hand(self._model_path):
                    merged_model(self._model_path, adapter, dtype=self._dtype).save_pretrained(folder)
            except (EngineError, *ODD_EXPORTS) as error:
                # The server has the state, from which the run can go on; it must not be lost with its copy.
                shutil.rmtree(adapter, ignore_errors=True)
                told = f"warning: the adapter of this checkpoint could not be saved here: {error}"
                print(told, file=sys.stderr, flush=True)
            self._tokenizer.save_pretrained(folder)

        return write


def _measured(metrics: dict[str, float], tags: Sequence[str]) -> dict[str, float]:
    """Without what a server's answer cannot tell."""
    not_measured = {f"policy/{tag}/{name}" for tag in tags for name in NOT_MEASURED}
    return {name: value for name, value in metrics.items() if name not in not_measured}
