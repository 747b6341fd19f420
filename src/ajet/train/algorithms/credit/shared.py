"""`credit=shared`: one reward for the whole team, as in cooperative games with a common return (Dec-POMDPs; the team
reward of MAPPO, Yu et al. 2022, and of MAGRPO, Liu et al. 2025, "LLM Collaboration With Multi-Agent RL").

R_team(episode) = mean over the trained tags of the mean over the tag's agents of R; an episode counts once, so that the
baseline and its spread are those of G plain values. Penalties stay with the agent that gave the malformed reply.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import ClassVar

from typing_extensions import override

from ajet.config.fields import named
from ajet.train.algorithms.credit.base import CreditConfig, CreditRule, Outcome, Pool


class Shared(CreditRule):
    """One pool, in which every agent has its episode's team reward."""

    @override
    def pools(self, outcomes: Sequence[Outcome]) -> Iterable[Pool]:
        rewards: dict[int, dict[str, list[float]]] = {}
        for outcome in outcomes:
            rewards.setdefault(outcome.repeat, {}).setdefault(outcome.tag, []).append(outcome.reward)
        team = {repeat: fmean(map(fmean, by_tag.values())) for repeat, by_tag in rewards.items()}
        return [
            Pool(
                outcomes=[replace(outcome, reward=team[outcome.repeat]) for outcome in outcomes], counts_once="episode"
            )
        ]


@dataclass
class SharedConfig(CreditConfig):
    """The mean over the trained tags for every agent, against the task's other episodes."""

    name: str = named("shared")

    component: ClassVar[type[CreditRule]] = Shared

    @override
    def remark(self, *, trained_tags: Sequence[str] | None) -> str | None:
        # No refusal, as of `per_task`: agents of one tag share their mean, and only play tells how many there are.
        if trained_tags is None or len(trained_tags) > 1:
            return None
        return (
            f"credit=shared has no team to share with, as {trained_tags[0]} is trained alone: unless it has several "
            "agents an episode, this is credit=per_tag"
        )
