"""`credit=agent_turn`: a call's own reward and its share of the episode's, against the same turn of the same agent.

    T_k = team_weight R + r_k

with R what the episode gave the agent and r_k what `tuner.add_reward` gave its k-th call: the groups and rewards of
AT-GRPO (Zhao et al. 2025, "Stronger-MAS", arXiv 2510.11062). AT-GRPO also samples a group's candidates from the same
state; here they come from the task's episodes, so that only first turns surely answer the same request.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from typing_extensions import override

from ajet.config.fields import named, ruled
from ajet.train.algorithms.credit.base import CreditConfig, CreditRule, Outcome, Pool, pooled


class AgentTurn(CreditRule):
    """A pool for each agent and turn."""

    config: AgentTurnConfig

    @override
    def pools(self, outcomes: Sequence[Outcome]) -> Iterable[Pool]:
        turns: dict[int, list[Outcome]] = {}
        for outcome in outcomes:
            team = self.config.team_weight * outcome.episode_reward
            for k, call in enumerate(outcome.calls):
                turns.setdefault(k, []).append(replace(outcome, reward=team + call.reward, calls=(call,)))
        return [pool for turn in turns.values() for pool in pooled(turn, lambda outcome: (outcome.tag, outcome.agent))]


@dataclass
class AgentTurnConfig(CreditConfig):
    """A call's own reward and the episode's, against the same turn of the same agent in the task's episodes."""

    name: str = named("agent_turn")
    team_weight: float = ruled(1.0, at_least=0)
    """How much of what the episode gave the agent each of its calls is credited with."""

    component: ClassVar[type[CreditRule]] = AgentTurn
