"""`credit=difference`: what a role has added, its reward less what it gets where the opponent decides in its place.

    D = R(agent) - mean over `num_replays` of R(agent) in the same episode with its role's agents replaced

Difference rewards (Wolpert & Tumer 2001, "Optimal payoff functions for members of collectives") with the opponent's
decisions as the default ones; COMA (Foerster et al. 2018, arXiv 1705.08926) has the policy's own, and a critic in place
of play. D is then compared with that of the role's agents in the task's other episodes, as with `per_tag`.

Which replay is worth playing: a baseline that a whole group shares is gone once the group's mean is subtracted, so one
replay for each task would change nothing. It must know what *this* episode was like, and must not know what the role
itself drew, or the gradient is biased. So everything else is as it was: task and seeds, and each reply of the other
roles for as long as their prompts are the recorded ones (`ajet.rollout.replaying`); the replaced agents draw anew. Luck
that both episodes share cancels; what they do not share adds its variance. So it pays where a role acts late or on
little of the game, and costs where all that follows hangs on its first reply (`credit/given_fraction` says how much was
shared).

A role that was not asked in an episode has added 0. An episode of which no replay can be used is in no pool.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import ClassVar

from typing_extensions import override

from ajet.config.fields import named, ruled
from ajet.records import EpisodeGroup, ReplayRequest
from ajet.train.algorithms.credit.base import CreditConfig, CreditRule, Outcome, Pool, compared_episodes, pooled


class Difference(CreditRule):
    """A pool a tag, of differences."""

    config: DifferenceConfig
    asks_opponent: ClassVar[bool] = True

    @override
    def replays(self, groups: Sequence[EpisodeGroup], rng: random.Random) -> Iterable[ReplayRequest]:
        for episode, compared in compared_episodes(groups):
            for tag in sorted({call.target_tag for call in episode.calls if call.trained} & compared):
                for draw in range(self.config.num_replays):
                    yield ReplayRequest(episode=episode, replaced_tag=tag, draw=draw)

    @override
    def pools(self, outcomes: Sequence[Outcome]) -> Iterable[Pool]:
        asked = {(outcome.repeat, outcome.tag) for outcome in outcomes if outcome.calls}
        differences = []
        for outcome in outcomes:
            if (outcome.repeat, outcome.tag) not in asked:
                differences.append(replace(outcome, reward=0.0))
            elif without := _rewards_without(outcome):
                differences.append(replace(outcome, reward=outcome.reward - fmean(without)))
        return pooled(differences, lambda outcome: outcome.tag)


def _rewards_without(outcome: Outcome) -> list[float]:
    """What the agent got where its role was replaced, or the role's agents on average where there was no such agent."""
    rewards = []
    for replay in outcome.replays:
        if replay.request.replaced_tag == outcome.tag:
            reward = replay.episode.rewards.get(outcome.agent, replay.episode.tag_rewards().get(outcome.tag))
            if reward is not None:
                rewards.append(reward)
    return rewards


@dataclass
class DifferenceConfig(CreditConfig):
    """An agent's own reward, less what it gets where the opponent plays its role in the same episode."""

    name: str = named("difference")
    num_replays: int = ruled(1, at_least=1)
    """Replays of each episode for each trained role, each as long as the episode: their mean is subtracted."""

    component: ClassVar[type[CreditRule]] = Difference

    @override
    def most_replays(self, *, num_tags: int | None) -> int | None:
        return None if num_tags is None else num_tags * self.num_replays
