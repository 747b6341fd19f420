"""`credit=rae`: an agent's own reward against its role's running baseline: role-conditioned advantage estimation (Liu
et al. 2025, "SPIRAL", arXiv 2506.24119).

    A = T - b(tag),   then   b(tag) <- decay^n b(tag) + (1 - decay^n) mean of T over the step's n episodes with the tag

which for n = 1 is the paper's moving average; within a step all episodes weigh the same, so that their order changes
nothing. A step is compared with the baseline that earlier steps have left, the first one with its own mean, where the
paper starts from 0. Unlike a group's, this baseline sees that a task is lost by all: such a group is not silent. A task
that is harder than others is always below it. Checkpoints hold the baselines.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, ClassVar

from typing_extensions import override

from ajet.config.fields import named, ruled
from ajet.errors import ConfigError
from ajet.train.algorithms.credit.base import CreditConfig, CreditRule, Outcome, Pool, pooled


class RunningBaselines(CreditRule):
    """A pool a tag and task, with the tag's baseline."""

    config: RaeConfig

    def __init__(self, config: RaeConfig) -> None:
        """No step was seen yet."""
        super().__init__(config)
        self._next: dict[str, float] = {}
        """By tag, after the steps so far."""
        self._now: dict[str, float] = {}
        """What the step at hand is compared with."""

    @override
    def begin_step(self, tasks: Sequence[Sequence[Outcome]]) -> None:
        means: dict[str, list[float]] = {}
        for outcomes in tasks:
            for episode in pooled(outcomes, lambda outcome: (outcome.tag, outcome.repeat)):
                means.setdefault(episode.outcomes[0].tag, []).append(fmean(one.total for one in episode.outcomes))
        self._now = {tag: self._next.get(tag, fmean(values)) for tag, values in means.items()}
        for tag, values in means.items():
            kept = self.config.decay ** len(values)
            self._next[tag] = kept * self._now[tag] + (1 - kept) * fmean(values)

    @override
    def pools(self, outcomes: Sequence[Outcome]) -> Iterable[Pool]:
        by_tag = pooled(outcomes, lambda outcome: outcome.tag)
        return [replace(pool, baseline=self._now[pool.outcomes[0].tag]) for pool in by_tag]

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"baselines": dict(self._next)}

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._next = dict(state["baselines"])


@dataclass
class RaeConfig(CreditConfig):
    """An agent's own reward, against what its role has been getting in the steps so far."""

    name: str = named("rae")
    decay: float = ruled(0.95, at_least=0, below=1)
    """What the baseline keeps of itself at each episode; 0: it is the last step's mean."""

    component: ClassVar[type[CreditRule]] = RunningBaselines
    has_own_baselines: ClassVar[bool] = True

    @override
    def check(self, *, advantage: str, trained_tags: Sequence[str] | None) -> None:
        if advantage != "dr_grpo":
            raise ConfigError(
                f"credit=rae compares with a role's running baseline, and algorithm.advantage={advantage} with another "
                "one: choose algorithm.advantage=dr_grpo, which is reward less baseline"
            )
