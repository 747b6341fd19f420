"""`credit=per_task`: an agent's own reward against those of all trained agents of the task.

Where roles play against each other the baseline is always half a win, whoever is favoured.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from ajet.config.fields import named
from ajet.errors import ConfigError
from ajet.train.algorithms.credit.base import CreditConfig, CreditRule, Outcome, Pool


class PerTask(CreditRule):
    """One pool, in which an episode counts once for each tag."""

    @override
    def pools(self, outcomes: Sequence[Outcome]) -> Iterable[Pool]:
        return [Pool(outcomes=outcomes)]


@dataclass
class PerTaskConfig(CreditConfig):
    """An agent's own reward, against those of all trained tags in the task's episodes."""

    name: str = named("per_task")

    component: ClassVar[type[CreditRule]] = PerTask

    @override
    def check(self, *, advantage: str, trained_tags: Sequence[str] | None) -> None:
        if trained_tags is not None and len(trained_tags) == 1:
            raise ConfigError(
                f"credit=per_task pools the rewards of several tags, but {trained_tags[0]} is trained alone: "
                "choose credit=per_tag"
            )
