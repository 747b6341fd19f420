"""Rewards -> advantages, per (task, target_tag), over episodes. Pure.

`BaselineScope` "task" pools a task's tags into one baseline instead, to measure ours against.

A baseline counts each episode once: the mean reward of the tag's trained agents in it. How many calls or tokens an
episode had changes nothing here. Formulas: GRPO (Shao et al. 2024, with TRL's std: n - 1, plus 1e-4), Dr. GRPO (Liu et
al. 2025: no std), RLOO (Ahmadian et al. 2024: mean of the others).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ajet.records import Episode, EpisodeGroup

AdvantageKind = Literal["grpo", "dr_grpo", "rloo"]
BaselineScope = Literal["tag", "task"]
STD_EPSILON = 1e-4
_SAME = 1e-12
"""Rewards closer than this are the same reward."""
_Pool = dict[tuple[int, str], float]
"""The rewards that share a baseline, by (repeat, tag)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupAdvantages:
    """What one group teaches."""

    values: Mapping[tuple[int, str], float]
    """Advantage by (repeat, agent name), usable episodes only."""
    zero_std_tags: frozenset[str]
    """Tags whose episodes all had the same value: they contribute zero, also where the tag's agents differ."""
    singleton_tags: frozenset[str]
    """Tags with fewer than two usable episodes: they contribute zero, too."""
    tags: frozenset[str]
    """Every trained tag of the group."""
    by_tag: Mapping[str, tuple[float, ...]]
    """The same advantages by tag, for metrics."""


def group_advantages(
    group: EpisodeGroup, kind: AdvantageKind, *, format_penalty: float = 0.0, baseline_per: BaselineScope = "tag"
) -> GroupAdvantages:
    """Advantages of every trained agent in every usable episode of one task.

    Args:
        group: the task's episodes.
        kind: the baseline.
        format_penalty: taken from an agent's reward for each of its malformed replies.
        baseline_per: whether a tag's rewards are compared with its own only, or with those of all of the task's tags.
    """
    episodes = [_penalized(episode, format_penalty) for episode in group.episodes]
    tags = {tag for episode in episodes for tag in episode.tag_rewards()}
    pool_of = {tag: tag if baseline_per == "tag" else "" for tag in tags}
    pools: dict[str, _Pool] = defaultdict(dict)
    for episode in episodes:
        for tag, reward in episode.tag_rewards().items():
            pools[pool_of[tag]][episode.repeat, tag] = reward
    single = {tag for tag in tags if len({repeat for repeat, _ in pools[pool_of[tag]]}) < 2}
    flat = {tag for tag in tags - single if np.ptp(list(pools[pool_of[tag]].values())) < _SAME}
    values: dict[tuple[int, str], float] = {}
    by_role: dict[str, list[float]] = defaultdict(list)
    for episode in episodes:
        for name, reward in episode.rewards.items():
            tag = episode.agent_tags[name]
            silent = tag in single or tag in flat
            value = 0.0 if silent else _advantage(reward, episode.repeat, pools[pool_of[tag]], kind)
            values[episode.repeat, name] = value
            by_role[tag].append(value)
    return GroupAdvantages(
        values=values,
        zero_std_tags=frozenset(flat),
        singleton_tags=frozenset(single),
        tags=frozenset(tags),
        by_tag={tag: tuple(found) for tag, found in by_role.items()},
    )


def _penalized(episode: Episode, format_penalty: float) -> Episode:
    if not format_penalty:
        return episode
    malformed = Counter(call.agent_name for call in episode.calls if call.format_error is not None)
    return replace(
        episode,
        rewards={name: reward - format_penalty * malformed[name] for name, reward in episode.rewards.items()},
    )


def _advantage(reward: float, repeat: int, rewards: _Pool, kind: AdvantageKind) -> float:
    values = np.array(list(rewards.values()))
    if kind == "rloo":
        return reward - float(np.mean([value for (other, _), value in rewards.items() if other != repeat]))
    centred = reward - float(values.mean())
    return centred / (float(values.std(ddof=1)) + STD_EPSILON) if kind == "grpo" else centred
