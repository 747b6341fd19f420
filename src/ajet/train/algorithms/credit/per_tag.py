"""`credit=per_tag`: an agent's own reward against those of its role, as in GRPO (Shao et al. 2024) for each role apart.

baseline(task, tag) = mean over the task's episodes of the mean over the tag's agents of T, as `outcomes` has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from ajet.config.fields import named
from ajet.train.algorithms.credit.base import CreditConfig, CreditRule, Outcome, Pool, pooled


class PerTag(CreditRule):
    """A pool a tag."""

    @override
    def pools(self, outcomes: Sequence[Outcome]) -> Iterable[Pool]:
        return pooled(outcomes, lambda outcome: outcome.tag)


@dataclass
class PerTagConfig(CreditConfig):
    """An agent's own reward, against those of its tag in the task's episodes."""

    name: str = named("per_tag")

    component: ClassVar[type[CreditRule]] = PerTag
