"""Rewards -> advantages, per (task, target_tag), over episodes. Pure.

A baseline counts each episode once: the mean reward of the tag's trained agents in it. How many calls or tokens an
episode had changes nothing here. Formulas: GRPO (Shao et al. 2024, with TRL's std: n - 1, plus 1e-4), Dr. GRPO (Liu et
al. 2025: no std), RLOO (Ahmadian et al. 2024: mean of the others).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ajet.records import Episode, EpisodeGroup

AdvantageKind = Literal["grpo", "dr_grpo", "rloo"]
STD_EPSILON = 1e-4
_SAME = 1e-12
"""Rewards closer than this are the same reward."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupAdvantages:
    """What one group teaches."""

    values: Mapping[tuple[int, str], float]
    """Advantage by (repeat, agent name), usable episodes only."""
    zero_std_tags: frozenset[str]
    """Tags whose episodes all had the same reward: they contribute zero."""
    singleton_tags: frozenset[str]
    """Tags with fewer than two usable episodes: they contribute zero, too."""
    tags: frozenset[str]
    """Every trained tag of the group."""
    agent_tags: Mapping[str, str]
    """target_tag by agent name."""

    def of_tag(self, tag: str) -> list[float]:
        """The advantages of the tag's agents over the episodes."""
        return [value for (_, name), value in self.values.items() if self.agent_tags[name] == tag]


def group_advantages(group: EpisodeGroup, kind: AdvantageKind) -> GroupAdvantages:
    """Advantages of every trained agent in every usable episode of one task."""
    by_tag: dict[str, dict[int, float]] = defaultdict(dict)
    for episode in group.episodes:
        for tag, reward in _tag_rewards(episode).items():
            by_tag[tag][episode.repeat] = reward
    flat = {tag for tag, rewards in by_tag.items() if len(rewards) > 1 and np.ptp(list(rewards.values())) < _SAME}
    single = {tag for tag, rewards in by_tag.items() if len(rewards) < 2}
    values: dict[tuple[int, str], float] = {}
    for episode in group.episodes:
        for name, reward in episode.rewards.items():
            tag = episode.agent_tags[name]
            silent = tag in single or (tag in flat and abs(reward - by_tag[tag][episode.repeat]) < _SAME)
            values[episode.repeat, name] = 0.0 if silent else _advantage(reward, episode.repeat, by_tag[tag], kind)
    return GroupAdvantages(
        values=values,
        zero_std_tags=frozenset(flat),
        singleton_tags=frozenset(single),
        tags=frozenset(by_tag),
        agent_tags={name: tag for episode in group.episodes for name, tag in episode.agent_tags.items()},
    )


def _tag_rewards(episode: Episode) -> dict[str, float]:
    by_tag: dict[str, list[float]] = defaultdict(list)
    for name, reward in episode.rewards.items():
        by_tag[episode.agent_tags[name]].append(reward)
    return {tag: float(np.mean(rewards)) for tag, rewards in by_tag.items()}


def _advantage(reward: float, repeat: int, rewards: Mapping[int, float], kind: AdvantageKind) -> float:
    values = np.array(list(rewards.values()))
    if kind == "rloo":
        return reward - float(np.mean([value for other, value in rewards.items() if other != repeat]))
    centred = reward - float(values.mean())
    return centred / (float(values.std(ddof=1)) + STD_EPSILON) if kind == "grpo" else centred
