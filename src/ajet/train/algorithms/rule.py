"""The learning rule of a run: the groups `algorithm` and `credit` with what their names stand for.

In: the groups. Out: a `LearningRule`, whose answers are checked: code of the user's that raises, or gives something
else than numbers of the right shape, becomes one sentence that names it.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ajet.config.algorithm import BATCH_SCALES, AlgorithmConfig
from ajet.config.user_options import is_user_entry
from ajet.errors import AlgorithmError
from ajet.records import CallKey, EpisodeGroup, Replay, ReplayRequest, TrainingSample
from ajet.train.algorithms import weights
from ajet.train.algorithms.credit.base import CreditConfig, CreditRule, Outcome, Pool, ReplyPrices
from ajet.train.algorithms.credit.critic import Critic, CriticConfig
from ajet.train.algorithms.credit.per_tag import PerTagConfig
from ajet.train.algorithms.options import Option, find_option
from ajet.train.algorithms.pools import GroupAdvantages, agent_outcomes, check_pools, pool_advantages, teaches
from ajet.train.algorithms.replayed import check_requests, usable_replays
from ajet.train.algorithms.scaling import batch_scaled
from ajet.train.algorithms.tokens import SampledTokens
from ajet.train.algorithms.weights import BatchTotals

_MOST_TENSORS = 3
"""Losses, what is clipped, what is capped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningRule:
    """What one run learns by: functions of files in `losses/`, `advantages/` and `aggregations/`, or the user's."""

    config: AlgorithmConfig
    loss: Option
    """(`SampledTokens`) -> a loss a token; behind it, if anything, where a clip has taken the gradient, and behind that
    where a cap holds a weight."""
    advantage: Option
    """(`Outcomes`) -> a credit for each agent."""
    aggregation: Option
    """(a sequence's length, `BatchTotals`) -> the weight of each of the sequence's tokens."""
    credit: CreditRule
    """Outcomes of a task -> pools of them."""
    crediting: Option
    """What chose it; its function is the rule's `pools`."""
    prices: ReplyPrices
    """What replies take from rewards."""

    def token_losses(self, tokens: SampledTokens) -> tuple[Tensor, Tensor, Tensor]:
        """The loss of each token (E), where a clip has taken its gradient, and where a cap holds a weight that keeps it
        (both E; 1.0 or 0.0).

        Raises:
            AlgorithmError: a loss of the user's raised something, or did not give a value a token.
        """
        with self.loss.runs():
            given = self.loss.function(tokens)
        tensors = given if isinstance(given, tuple) else (given,)
        if not 1 <= len(tensors) <= _MOST_TENSORS:
            raise AlgorithmError(
                f"{self.loss.setting} must give a tensor of losses, if need be with one of what is clipped and one of "
                f"what is capped, not {len(tensors)} values"
            )
        for values in tensors:
            if not isinstance(values, Tensor) or values.shape != tokens.logp.shape:
                found = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
                raise AlgorithmError(
                    f"{self.loss.setting} must give a tensor with a value for each of the {len(tokens.logp)} tokens "
                    f"that it was given, not {found}"
                )
        nowhere = torch.zeros_like(tokens.logp)
        loss, clipped, capped = [*tensors, nowhere, nowhere][:_MOST_TENSORS]
        return loss, clipped.to(nowhere.dtype), capped.to(nowhere.dtype)

    def replay_requests(self, groups: Sequence[EpisodeGroup], rng: random.Random) -> list[ReplayRequest]:
        """What the credit rule wants played again of a step, those of all processes given.

        Raises:
            AlgorithmError: a rule of the user's raised something, or asks for what cannot be played again.
        """
        with self.crediting.runs():
            given: object = self.credit.replays(groups, rng)
            requests = list(given) if isinstance(given, Iterable) else given
        try:
            return check_requests(requests, groups)
        except (TypeError, ValueError) as error:
            raise AlgorithmError(f"{self.crediting.setting}: {error}") from error

    def step_advantages(
        self,
        groups: Sequence[EpisodeGroup],
        replays: Sequence[Replay] = (),
        *,
        call_costs: Mapping[CallKey, float] | None = None,
        call_values: Mapping[CallKey, float] | None = None,
    ) -> list[GroupAdvantages]:
        """What each group of a step teaches, those of all processes given.

        Args:
            groups: of the step.
            replays: what came of `replay_requests`.
            call_costs: what calls take from the rewards of their agents besides `prices`; None for nothing.
            call_values: what was expected before calls; None where nothing says so.

        Raises:
            AlgorithmError: a credit rule or an advantage of the user's raised something, or gave something else than
                pools or advantages.
        """
        replayed = usable_replays(replays)
        tasks = [
            agent_outcomes(
                group, self.prices, replayed[group.task.task_id], call_costs=call_costs, call_values=call_values
            )
            for group in groups
        ]
        with self.crediting.runs():
            self.credit.begin_step(tasks)
        pools = [self._pools(outcomes) for outcomes in tasks]
        credited = [self._task_advantages(*task) for task in zip(tasks, pools, strict=True)]
        if self.config.scale_rewards in BATCH_SCALES:
            credited = batch_scaled(tasks, pools, credited, by=self.config.scale_rewards)
        return credited

    @property
    def critic(self) -> CriticConfig | None:
        """Of the values that are trained beside the policy; None where there are none."""
        return self.credit.config if isinstance(self.credit, Critic) else None

    def value_targets(
        self,
        groups: Sequence[EpisodeGroup],
        *,
        call_costs: Mapping[CallKey, float],
        call_values: Mapping[CallKey, float],
    ) -> dict[CallKey, float]:
        """What the values of a step's calls are trained towards; nothing where there are none.

        Raises:
            AlgorithmError: a rule of the user's raised something.
        """
        if not isinstance(self.credit, Critic):
            return {}
        targets: dict[CallKey, float] = {}
        for group in groups:
            outcomes = agent_outcomes(group, self.prices, call_costs=call_costs, call_values=call_values)
            with self.crediting.runs():
                found = self.credit.value_targets(outcomes)
            targets.update({(group.task.task_id, *key): target for key, target in found.items()})
        return targets

    def group_advantages(self, group: EpisodeGroup, replays: Sequence[Replay] = ()) -> GroupAdvantages:
        """What the only group of a step teaches; errors as `step_advantages`."""
        return self.step_advantages([group], replays)[0]

    def teaches(self, group: EpisodeGroup) -> bool:
        """Whether a group has any reward to learn from, as soon as it is played; asked of rules alone that need not
        know the step for it. What calls cost by their KL is not known then. Errors as `step_advantages`."""
        return any(map(teaches, self._pools(agent_outcomes(group, self.prices))))

    def _task_advantages(self, outcomes: Sequence[Outcome], pools: Sequence[Pool]) -> GroupAdvantages:
        with self.advantage.runs():
            return pool_advantages(outcomes, pools, self.advantage.function, setting=self.advantage.setting)

    def _pools(self, outcomes: Sequence[Outcome]) -> list[Pool]:
        with self.crediting.runs():
            given: object = self.credit.pools(outcomes)
            pools = list(given) if isinstance(given, Iterable) else given
        try:
            return check_pools(pools, outcomes)
        except (TypeError, ValueError) as error:
            raise AlgorithmError(f"{self.crediting.setting}: {error}") from error

    def state_dict(self) -> dict[str, Any]:
        """What the credit rule keeps from step to step.

        Raises:
            AlgorithmError: a rule of the user's raised something, or gave what no checkpoint can hold.
        """
        with self.crediting.runs():
            state = self.credit.state_dict()
            try:
                kept: dict[str, Any] = json.loads(json.dumps(state))
            except (TypeError, ValueError) as error:
                raise AlgorithmError(f"{self.crediting.setting}: state_dict must give JSON's types: {error}") from error
        return kept

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; errors likewise. Nothing of a run that kept nothing."""
        if state:
            with self.crediting.runs():
                self.credit.load_state_dict(state)

    def token_weights(self, samples: Sequence[TrainingSample], totals: BatchTotals) -> list[float]:
        """The weight of each sampled token of each row.

        Raises:
            AlgorithmError: an aggregation of the user's raised something, or gave what cannot be a weight.
        """
        return weights.token_weights(samples, self.weight, totals)

    def weight(self, length: int, totals: BatchTotals) -> float:
        """The weight of each token of a sequence of `length` sampled tokens; errors as `token_weights`."""
        with self.aggregation.runs():
            given = self.aggregation.function(length, totals)
        # Never below 0: which way a token is pushed is the advantage's to say.
        if not isinstance(given, int | float) or not math.isfinite(given) or given < 0:
            raise AlgorithmError(f"{self.aggregation.setting} must give a finite number from 0 on, not {given!r}")
        return given


def learning_rule(
    algorithm: AlgorithmConfig, credit: CreditConfig | None = None, *, max_tokens: int | None = None
) -> LearningRule:
    """Load what the groups name.

    Args:
        algorithm: loss, advantage, aggregation and what surrounds them.
        credit: None for the rule that is the default.
        max_tokens: `rollout.max_tokens`; needed where long replies have a price.

    Raises:
        ConfigError: as `find_option`, or what the `__init__` of a user's credit rule raised.
    """
    credit = credit or PerTagConfig()
    rule = credit.build()
    assert max_tokens is not None or not algorithm.overlong_penalty, "overlong replies are those near a limit"
    return LearningRule(
        config=algorithm,
        loss=find_option("loss", algorithm, num_given=1),
        advantage=find_option("advantage", algorithm, num_given=1),
        aggregation=find_option("aggregation", algorithm, num_given=2),
        credit=rule,
        crediting=Option(setting=f"credit={credit.name}", function=rule.pools, is_own=is_user_entry(credit.name)),
        prices=ReplyPrices(
            malformed=algorithm.format_penalty,
            overlong=algorithm.overlong_penalty,
            buffer=algorithm.overlong_buffer or 1,
            max_tokens=max_tokens or 0,
        ),
    )
