"""The policy being trained: log-probabilities of packs, gradients, the optimizer's step, weights for the engine.

In: minibatches of packs. Out: changed weights and statistics by tag. Accelerate places the model, scales precision and
adds gradients up over ranks; they are reduced once an optimizer step and not by backward hooks, since ranks may have
different numbers of packs. Left out: what a batch is and how it was credited.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from ajet.engine.base import Engine
from ajet.train.algorithms.adaptive_entropy import EntropyBonus
from ajet.train.algorithms.rule import LearningRule
from ajet.train.compiled import compile_layers
from ajet.train.following_reference import Reference
from ajet.train.in_step import any_rank_has, filled_up, on_all_ranks, training_modes
from ajet.train.lora import adapter_state, base_of, merged_state
from ajet.train.optimizer import GuardedOptimizer, kl_coef_of_loss
from ajet.train.pack_loss import pack_loss
from ajet.train.packing import IDLE, Pack
from ajet.train.recompute import recompute
from ajet.train.scoring import PackOutput, PackScorer
from ajet.train.sharding import kept_whole, own_part, shared_out_as
from ajet.train.step_bounds import StepBounds, step_bounds
from ajet.train.tag_sums import TagSums
from ajet.train.value_head import ValueHead, value_loss


class TrainablePolicy:
    """A causal language model and its optimizer."""

    foresee: None = None
    """What is asked of a model in this process would hold up the play."""

    def __init__(
        self,
        model: Any,
        *,
        tokenizer: Any,
        accelerator: Accelerator,
        rule: LearningRule,
        temperature: float,
        total_steps: int,
        reference: Any | None,
        recompute_layers: bool,
        num_threads: int | None,
        sharded: bool = False,
        compiled: bool = False,
        offload_optimizer: bool = False,
        blocks_from: int | None = None,
        publishes_adapters: bool = False,
    ) -> None:
        """A policy whose weights are `model`'s.

        Args:
            model: a transformers causal LM; moved to the accelerator's device.
            tokenizer: saved beside the model.
            accelerator, rule: devices, precision and ranks; loss, corrections and optimizer.
            temperature: that rollouts are sampled at.
            total_steps: training steps of the whole run, for the schedules.
            reference: what the KL penalty pulls to, of the model's architecture; changed in place where it follows the
                policy; None without a penalty, and for adapters, beneath which the starting model is left as it was.
            recompute_layers: whether backward computes layers again instead of keeping what they computed.
            num_threads: of torch while it trains; None leaves them.
            sharded: whether each rank keeps a share of the weights only. Then whatever computes with them or gathers
                them is called on every rank alike.
            compiled: whether torch compiles the model's layers.
            offload_optimizer: whether Adam's moments are kept in the CPU's memory.
            blocks_from: tokens from which on a branching pack goes by FlexAttention, where the model allows it; None
                for never.
            publishes_adapters: whether the engine takes adapters as they are; else they are merged into whole weights.

        Raises:
            ConfigError: the model does not model text from left to right, or its layers cannot be told apart.
        """
        self._tokenizer = tokenizer
        self._accelerator = accelerator
        self._rule = rule
        self._algorithm = rule.config
        self._publishes_adapters = publishes_adapters
        self._total_steps = total_steps
        self._num_threads = num_threads
        if compiled:
            compile_layers(model)
        if recompute_layers:
            recompute(model)
        self.is_sharded = sharded

        scorer = partial(PackScorer, temperature=temperature, sharded=sharded, blocks_from=blocks_from)
        self._scorer = scorer(model, accelerator, tells_hidden=rule.critic is not None)
        self.model = self._scorer.model
        held_to = None if reference is None else scorer(reference, accelerator)
        self._reference = Reference(held_to, self._scorer, rule.config)
        self.why_chains_only = self._scorer.why_chains_only
        """Why packs must be plain rows for this model; None where they may branch."""
        self.why_no_blocks = self._scorer.why_no_blocks
        """Why no pack goes by FlexAttention though it was asked for."""
        self._values = None if rule.critic is None else ValueHead(self._scorer.hidden_size, accelerator.device)
        of_head = [] if self._values is None else list(self._values.parameters())
        self._trained = [*(each for each in self.model.parameters() if each.requires_grad), *of_head]
        self._bonus = EntropyBonus(rule.config)
        self._optimizer = GuardedOptimizer(
            self._trained,
            rule.config,
            accelerator,
            total_steps=total_steps,
            offloaded=offload_optimizer,
            num_apart=len(of_head),
            rate_apart=0.0 if rule.critic is None else rule.critic.value_learning_rate,
        )

    def forward(self, pack: Pack) -> PackOutput:
        """Log-probabilities and entropies of a pack's entries as the policy is now; errors as `PackScorer.score`."""
        # Without a bonus the entropy is only reported.
        return self._scorer.score(pack, entropy_gradient=self._algorithm.pays_entropy)

    def train_batch(
        self, minibatches: Sequence[Sequence[Pack]], tags: Sequence[str], *, num_steps_done: int
    ) -> dict[str, float]:
        """As `Learner.train_batch`."""
        order = [*range(len(minibatches))] * self._algorithm.num_epochs
        first = num_steps_done * len(order)
        sums, num_skipped = TagSums(tags), 0
        if self._values is not None:
            self._values.add_rows(tags)
        norms: list[float] = []
        with training_modes(self._accelerator, self._num_threads):
            minibatches = filled_up(self._accelerator, minibatches) if self.is_sharded else minibatches
            old = self._old_logps(minibatches)
            for step, i in enumerate(order, first):
                packs = minibatches[i]
                if not any_rank_has(self._accelerator, packs):
                    continue
                # After the first step the policy has moved, and its distance to the sampler means something else.
                of_step = TagSums(tags)
                norm = self._optimizer_step(step, packs, old[i], of_step, on_policy=not norms)
                if norm is None:
                    num_skipped += 1
                else:
                    sums.include(of_step)
                    norms.append(norm)
                    if self._algorithm.entropy_target is not None:
                        self._bonus.measured(of_step.entropies(self._accelerator))
            self._reference.step_done(num_steps_done + 1)
        metrics = {} if num_skipped and not norms else sums.metrics(self._accelerator)
        metrics["policy/optimizer_steps"] = float(len(norms))
        metrics["policy/skipped_nonfinite"] = float(num_skipped)
        if norms:
            metrics["policy/grad_norm"] = sum(norms) / len(norms)
        metrics["policy/learning_rate"] = self._optimizer.rate(first)
        if self._algorithm.entropy_target is not None:
            coefs = zip(tags, self._bonus.coefficients(tags), strict=True)
            metrics |= {f"policy/{tag}/entropy_coef": coef for tag, coef in coefs}
        return metrics

    def _old_logps(self, minibatches: Sequence[Sequence[Pack]]) -> list[list[Tensor | None]]:
        """For each pack its log-probabilities before the first step, where they must be told apart from the engine's;
        else None: the engine sampled from this very policy, and another forward pass would be for nothing."""
        if not self._algorithm.corrects_sampling:
            return [[None] * len(packs) for packs in minibatches]
        with torch.no_grad():
            return [[self.forward(pack).logp_E for pack in packs] for packs in minibatches]

    def _optimizer_step(
        self, step: int, packs: Sequence[Pack], old: Sequence[Tensor | None], sums: TagSums, *, on_policy: bool
    ) -> float | None:
        """Optimizer step `step` of the run; returns the gradient's norm, or None where nothing was changed."""
        kl_coef = kl_coef_of_loss(step, self._algorithm, self._total_steps)
        bounds = step_bounds(
            self._algorithm,
            packs,
            old,
            entropies=lambda pack: self.forward(pack).entropy_E,
            accelerator=self._accelerator,
        )
        total = torch.zeros((), device=self._accelerator.device)
        for pack, old_E in zip(packs, old, strict=True):
            loss = self._pack_loss(pack, old_E, kl_coef, sums, on_policy=on_policy, bounds=bounds)
            self._accelerator.backward(loss)
            total += loss.detach()
        return self._optimizer.step(step, total)

    def _pack_loss(
        self,
        pack: Pack,
        old_E: Tensor | None,
        kl_coef: float,
        sums: TagSums,
        *,
        on_policy: bool,
        bounds: StepBounds,
    ) -> Tensor:
        # Before the policy: adapters are switched off for it.
        reference_E = self._reference.logps(pack) if self._algorithm.kl_in_loss else None
        output = self.forward(pack)
        if pack is IDLE:
            return 0 * output.logp_E.sum()
        loss = pack_loss(
            self._rule,
            pack,
            output,
            sums,
            old_E=old_E,
            reference_E=reference_E,
            kl_coef=kl_coef,
            on_policy=on_policy,
            bounds=bounds,
            entropy_coefs=self._bonus.coefficients(sums.tags),
        )
        return loss if self._values is None else loss + value_loss(self._values(output, pack, sums.tags), pack)

    def call_values(self, packs: Sequence[Pack], tags: Sequence[str]) -> list[Tensor]:
        """As `Learner.call_values`."""
        assert self._values is not None, "asked where values are trained"
        self._values.add_rows(tags)
        with training_modes(self._accelerator, self._num_threads), torch.no_grad():
            return [self._values(self.forward(pack), pack, tags) for pack in packs]

    def reference_logps(self, packs: Sequence[Pack]) -> list[Tensor]:
        """As `Learner.reference_logps`."""
        with training_modes(self._accelerator, self._num_threads):
            (padded,) = filled_up(self._accelerator, [packs]) if self.is_sharded else [packs]
            return [self._reference.logps(pack) for pack in padded][: len(packs)]

    def is_finite(self) -> bool:
        """As `Learner.is_finite`."""
        # A share of a small parameter may be empty.
        finite = all(bool(torch.isfinite(own_part(parameter)).all()) for parameter in self._trained)
        return on_all_ranks(self._accelerator, finite)

    def merged_weights(self) -> Iterator[tuple[str, Tensor]]:
        """(Hugging Face name, tensor) of every parameter the engine holds, adapters merged in."""
        return merged_state(self.model)

    def publish(self, engine: Engine, policy_version: int) -> None:
        """As `Learner.publish`: every weight goes to the engine, or every adapter."""
        weights = adapter_state(self.model) if self._publishes_adapters else self.merged_weights()
        try:
            engine.update_weights(weights, policy_version)
        finally:
            deque(weights, maxlen=0)  # the others go on gathering, whatever this rank's engine did with them

    @property
    def remarks(self) -> list[str]:
        """As `Learner.remarks`."""
        if self.why_chains_only:
            return [f"rows are trained one by one, without sharing their prefixes: {self.why_chains_only}"]
        return [f"packs attend by a dense mask: {self.why_no_blocks}"] if self.why_no_blocks else []

    @property
    def checkpoint_bytes(self) -> int:
        """The model as it is saved, what is trained and its two moments, and a reference that moves."""
        return _num_bytes(self.model.parameters()) + 3 * _num_bytes(self._trained) + self._reference.num_bytes

    def model_writer(self, *, kept: bool = True) -> Callable[[Path], None]:
        """As `Learner.model_writer`: in Hugging Face format, adapters merged in."""
        weights = kept_whole(merged_state(self.model), kept=kept)

        def write(folder: Path) -> None:
            self._tokenizer.save_pretrained(folder)
            base_of(self.model).save_pretrained(folder, state_dict=weights)

        return write

    def state_dict(self, *, kept: bool = True) -> dict[str, Any]:
        """As `Learner.state_dict`: what is trained, moments, a reference that has moved, the entropy bonus."""
        parameters = kept_whole(iter(enumerate(self._trained)), kept=kept)
        return {
            "parameters": list(parameters.values()),
            "optimizer": self._optimizer.state_dict(kept=kept),
            "reference": self._reference.state_dict() if kept else [],
            "entropy_bonus": self._bonus.state_dict(),
            "value_tags": [] if self._values is None else list(self._values.tags),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        with torch.no_grad():
            for parameter, saved in zip(self._trained, state["parameters"], strict=True):
                parameter.copy_(shared_out_as(saved, parameter))
        self._optimizer.load_state_dict(state["optimizer"])
        # Which earlier versions did not have.
        self._reference.load_state_dict(state.get("reference", ()))
        self._bonus.load_state_dict(state.get("entropy_bonus", {}))
        if self._values is not None:
            self._values.tags = list(state["value_tags"])


def _num_bytes(parameters: Iterable[Tensor]) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in parameters)
