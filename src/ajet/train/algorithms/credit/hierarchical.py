"""`credit=hierarchical`: those who propose are compared across the task's episodes, those who solve within one.

    proposers: T - mean over the task's episodes, as `per_tag`
    solvers:   T - mean over the solvers of the same tag in the same episode, who all had the same proposal

A solver is not blamed for a proposal that nobody could have solved, and a proposer is not praised for one lucky solver:
groups on each level of a hierarchy, an idea of M-GRPO (Hong et al. 2025, arXiv 2511.13288). Needs several solvers an
episode; a single one teaches nothing, and is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from typing_extensions import override

from ajet.config.fields import named
from ajet.errors import AlgorithmError, ConfigError
from ajet.train.algorithms.credit.base import CreditConfig, CreditRule, Outcome, Pool, pooled


class Hierarchical(CreditRule):
    """A pool a proposers' tag, and a pool an episode and solvers' tag."""

    config: HierarchicalConfig

    @override
    def pools(self, outcomes: Sequence[Outcome]) -> Iterable[Pool]:
        proposers, solvers = set(self.config.proposers), set(self.config.solvers)
        for tag in {outcome.tag for outcome in outcomes} - proposers - solvers:
            raise AlgorithmError(
                f"credit=hierarchical: {tag} is trained, and neither credit.proposers nor credit.solvers names it"
            )
        return [
            *pooled((one for one in outcomes if one.tag in proposers), lambda outcome: outcome.tag),
            *pooled(
                (one for one in outcomes if one.tag in solvers),
                lambda outcome: (outcome.tag, outcome.repeat),
                counts_once="agent",
            ),
        ]


@dataclass
class HierarchicalConfig(CreditConfig):
    """Proposers' own rewards across the task's episodes, solvers' own rewards within an episode."""

    name: str = named("hierarchical")
    proposers: list[str] = field(default_factory=list)
    """Trained tags whose agents say what the solvers work on; needed."""
    solvers: list[str] = field(default_factory=list)
    """Trained tags with several agents an episode that work on it; needed."""

    component: ClassVar[type[CreditRule]] = Hierarchical

    @override
    def check(self, *, advantage: str, trained_tags: Sequence[str] | None) -> None:
        for key, tags in (("proposers", self.proposers), ("solvers", self.solvers)):
            if not tags:
                among = f" among {', '.join(trained_tags)}" if trained_tags else ""
                raise ConfigError(f"credit=hierarchical needs credit.{key}: name tags{among}, e.g. credit.{key}=[tag]")
        both = sorted({*self.proposers} & {*self.solvers})
        if both:
            raise ConfigError(f"credit.proposers and credit.solvers both name {', '.join(both)}: drop it from one")
        named_tags = [*self.proposers, *self.solvers]
        if trained_tags is not None and set(named_tags) != set(trained_tags):
            raise ConfigError(
                f"credit.proposers and credit.solvers name {', '.join(named_tags)}, and {', '.join(trained_tags)} are "
                "trained: name each trained tag in one of them, and no other"
            )
