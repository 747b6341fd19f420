"""`credit=per_turn`: a reward a call, what came of it, against the same turn of the task's other episodes.

With n calls of an agent, the rewards r_k that `tuner.add_reward` gave them, and R that the episode gave the agent:

    return_k = sum over j from k to n - 1 of discount^(j - k) r_j, plus discount^(n - 1 - k) R

A turn is an agent's k-th call. Its baseline is that of the tag's agents at the same turn (turn-level advantages, Zeng
et al. 2025, arXiv 2505.11821), so that it knows how far the episode has come, and not what happened in it. What a
malformed reply costs is its own call's alone. Turns that a single episode reached teach nothing, and are counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from typing_extensions import override

from ajet.config.fields import named, ruled
from ajet.train.algorithms.credit.base import CreditConfig, CreditRule, Outcome, Pool, pooled


class PerTurn(CreditRule):
    """A pool for each tag and turn."""

    config: PerTurnConfig

    @override
    def pools(self, outcomes: Sequence[Outcome]) -> Iterable[Pool]:
        turns: dict[int, list[Outcome]] = {}
        for outcome in outcomes:
            for k, turn in enumerate(self._returns(outcome)):
                turns.setdefault(k, []).append(turn)
        return [pool for turn in turns.values() for pool in pooled(turn, lambda outcome: outcome.tag)]

    def _returns(self, outcome: Outcome) -> list[Outcome]:
        """An outcome for each of an agent's calls, in their order."""
        to_come, returns = outcome.episode_reward, []
        for i, call in enumerate(reversed(outcome.calls)):
            to_come = call.reward + (self.config.discount if i else 1.0) * to_come
            returns.append(replace(outcome, reward=to_come, calls=(call,)))
        return returns[::-1]


@dataclass
class PerTurnConfig(CreditConfig):
    """A call's own reward and what came after it, against the same turn of its tag in the task's episodes."""

    name: str = named("per_turn")
    discount: float = ruled(1.0, at_least=0, at_most=1)
    """What a reward counts for the call before; 1: every call is credited with all that came after it."""

    component: ClassVar[type[CreditRule]] = PerTurn
