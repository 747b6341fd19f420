"""Rewards -> advantages, per (task, target_tag), over episodes. Pure.

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
STD_EPSILON = 1e-4
_SAME = 1e-12
"""Rewards closer than this are the same reward."""


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


def group_advantages(group: EpisodeGroup, kind: AdvantageKind, *, format_penalty: float = 0.0) -> GroupAdvantages:
    """Advantages of every trained agent in every usable episode of one task.

    Args:
        group: the task's episodes.
        kind: the baseline.
        format_penalty: taken from an agent's reward for each of its replies that could not be parsed.
    """
    episodes = [_penalized(episode, format_penalty) for episode in group.episodes]
    by_tag: dict[str, dict[int, float]] = defaultdict(dict)
    for episode in episodes:
        for tag, reward in episode.tag_rewards().items():
            by_tag[tag][episode.repeat] = reward
    flat = {tag for tag, rewards in by_tag.items() if len(rewards) > 1 and np.ptp(list(rewards.values())) < _SAME}
    single = {tag for tag, rewards in by_tag.items() if len(rewards) < 2}
    values: dict[tuple[int, str], float] = {}
    by_role: dict[str, list[float]] = defaultdict(list)
    for episode in episodes:
        for name, reward in episode.rewards.items():
            tag = episode.agent_tags[name]
            silent = tag in single or tag in flat
            value = 0.0 if silent else _advantage(reward, episode.repeat, by_tag[tag], kind)
            values[episode.repeat, name] = value
            by_role[tag].append(value)
    return GroupAdvantages(
        values=values,
        zero_std_tags=frozenset(flat),
        singleton_tags=frozenset(single),
        tags=frozenset(by_tag),
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


def _advantage(reward: float, repeat: int, rewards: Mapping[int, float], kind: AdvantageKind) -> float:
    values = np.array(list(rewards.values()))
    if kind == "rloo":
        return reward - float(np.mean([value for other, value in rewards.items() if other != repeat]))
    centred = reward - float(values.mean())
    return centred / (float(values.std(ddof=1)) + STD_EPSILON) if kind == "grpo" else centred
