"""`credit=critic`: what came of a call against what a value head expected before it: PPO with generalized advantages
(Schulman et al. 2017, arXiv 1707.06347; GAE, Schulman et al. 2016, arXiv 1506.02438), a call being a step.

With n calls of an agent, V_k the value of what the k-th answered (V_n = 0), r_k what `tuner.add_reward` gave the call
less what its reply costs, and R, what the episode gave the agent, in r_(n-1):

    delta_k = r_k + discount V_(k+1) - V_k        A_k = sum over l of (discount gae_lambda)^l delta_(k+l)

The value is then trained towards A_k + V_k. An agent's calls are all that it sees happen: what others do between two of
them is part of its environment. verl's `adv_estimator=gae` takes tokens for steps; TRL 1.16 has no PPO.

The head is a row a `target_tag` on the trunk of the policy (`ajet.train.value_head`); V is 0 at first, so that a run
starts with returns for advantages. A baseline that the task's other episodes do not share sees that a task is lost by
all; a pool of a single episode teaches the policy nothing all the same, as everywhere. Values of calls stand in
`Outcome.call_values`; a call without sampled tokens is not a step, and its reward is that of the step before it, or of
the first where none is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from typing_extensions import override

from ajet.config.fields import named, ruled
from ajet.errors import ConfigError
from ajet.records import Call
from ajet.train.algorithms.credit.base import FREE_REPLIES, CreditConfig, CreditRule, Outcome, Pool, pooled


def generalized_advantages(
    rewards: Sequence[float], values: Sequence[float], *, discount: float, gae_lambda: float
) -> list[float]:
    """GAE of n steps of an episode that ends with the last.

    Args:
        rewards: n, each of what the step brought.
        values: n, each of the state before the step.
        discount: of rewards and values a step later.
        gae_lambda: 0: a step is compared with the value behind it alone, 1: with all that came.

    Example: rewards (0, 1), values (.5, .75), both factors 1: (.5, .25), which is what came less what was expected.
    """
    advantages: list[float] = []
    value_after, advantage_after = 0.0, 0.0
    for reward, value in zip(reversed(rewards), reversed(values), strict=True):
        advantage_after = reward + discount * value_after - value + discount * gae_lambda * advantage_after
        value_after = value
        advantages.append(advantage_after)
    return advantages[::-1]


class Critic(CreditRule):
    """A pool a tag, of its calls, whose totals are advantages already."""

    config: CriticConfig

    @override
    def pools(self, outcomes: Sequence[Outcome]) -> Iterable[Pool]:
        calls = [
            # What its reply costs is in the advantage.
            replace(outcome, reward=advantage, calls=(call,), prices=FREE_REPLIES, call_costs={})
            for outcome in outcomes
            for call, advantage in self._advantages(outcome)
        ]
        return pooled(calls, lambda outcome: outcome.tag, baseline=0.0)

    def value_targets(self, outcomes: Sequence[Outcome]) -> dict[tuple[int, int], float]:
        """What the values of a task's calls are trained towards, by repeat and index of the call."""
        return {
            (outcome.repeat, call.index): advantage + outcome.value_of(call)
            for outcome in outcomes
            for call, advantage in self._advantages(outcome)
        }

    def _advantages(self, outcome: Outcome) -> list[tuple[Call, float]]:
        """The steps of an agent's episode with their advantages."""
        steps = [call for call in outcome.calls if call.sampled_ids]
        if not steps:
            return []
        rewards, num_begun = [0.0] * len(steps), 0
        for call in outcome.calls:
            num_begun += bool(call.sampled_ids)
            rewards[max(num_begun - 1, 0)] += call.reward - outcome.cost_of(call)
        rewards[-1] += outcome.episode_reward
        advantages = generalized_advantages(
            rewards,
            [outcome.value_of(call) for call in steps],
            discount=self.config.discount,
            gae_lambda=self.config.gae_lambda,
        )
        return list(zip(steps, advantages, strict=True))


@dataclass
class CriticConfig(CreditConfig):
    """What came of a call, against what a value head on the policy's trunk expected."""

    name: str = named("critic")
    discount: float = ruled(1.0, at_least=0, at_most=1)
    """What a reward counts for the agent's call before."""
    gae_lambda: float = ruled(0.95, at_least=0, at_most=1)
    """How far ahead a call is compared: with the value behind it alone (0: little variance, and what the head does not
    know is a bias), or with all that came of it (1)."""
    value_coef: float = ruled(0.1, above=0)
    """Weight of the value loss beside the policy's: how much of the trunk's gradient is the head's. The head itself
    learns as fast with any."""
    value_learning_rate: float = ruled(0.03, above=0, at_most=1)
    """Peak learning rate of the head; the trunk has `algorithm.learning_rate`, and both have its schedule. About as far
    as a value moves in an optimizer step, in units of reward, whatever the width of the model."""

    component: ClassVar[type[CreditRule]] = Critic
    has_own_baselines: ClassVar[bool] = True
    has_values: ClassVar[bool] = True

    @override
    def check(self, *, advantage: str, trained_tags: Sequence[str] | None) -> None:
        if advantage != "dr_grpo":
            raise ConfigError(
                f"credit=critic compares with values, and algorithm.advantage={advantage} with rewards of the group: "
                "choose algorithm.advantage=dr_grpo, which is reward less baseline"
            )


def check_values(credit: CreditConfig) -> None:
    """Refuse a rule of one's own with half of what a value head needs: the run asks the rule for what values are
    trained towards, and its settings for how.

    Raises:
        ConfigError: what to extend.
    """
    extends = isinstance(credit.component, type) and issubclass(credit.component, Critic)
    if not (extends == isinstance(credit, CriticConfig) == credit.has_values):
        raise ConfigError(
            f"credit={credit.name}: a value head is trained for a rule that extends Critic, with settings that extend "
            "CriticConfig (ajet.train.algorithms.credit.critic): extend both, or neither, and leave has_values out"
        )
