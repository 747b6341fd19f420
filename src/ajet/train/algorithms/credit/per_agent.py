"""`credit=per_agent`: an agent's own reward against its own in the task's other episodes.

For tags whose agents do not start alike, e.g. the first and the second speaker: a tag's common baseline would reward
the luckier seat, and its spread holds the difference between seats. Costs nothing; a pool has one value an episode.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from ajet.config.fields import named
from ajet.train.algorithms.credit.base import CreditConfig, CreditRule, Outcome, Pool, pooled


class PerAgent(CreditRule):
    """A pool an agent; one that changes its tag between episodes has one for each."""

    @override
    def pools(self, outcomes: Sequence[Outcome]) -> Iterable[Pool]:
        return pooled(outcomes, lambda outcome: (outcome.tag, outcome.agent))


@dataclass
class PerAgentConfig(CreditConfig):
    """An agent's own reward, against its own in the task's other episodes."""

    name: str = named("per_agent")

    component: ClassVar[type[CreditRule]] = PerAgent
