"""Rewards -> advantages, per (task, target_tag), over episodes. Pure.

What is compared are totals: T = R - penalty, an agent's reward less `format_penalty` for each of its malformed replies.
Agents of one tag may differ in both. Every episode counts once, as in the loss: with m agents of the tag in an episode
each has the weight 1 / m of it, so

    baseline = mean over episodes of the mean over the tag's agents of T
    spread^2 = the same mean of (T - baseline)^2, times G / (G - 1) for G episodes

Where all agents of an episode have one total, this is TRL's mean and its std with n - 1; where they differ it is what
the agents themselves spread. GRPO (Shao et al. 2024): (T - baseline) / (spread + 1e-4). Dr. GRPO (Liu et al. 2025):
T - baseline. RLOO (Ahmadian et al. 2024): T less the mean of the other episodes. With n = G x the most agents an
episode has, no GRPO advantage exceeds (n - 1) / sqrt(n), what n plain values can reach.

Dividing by the spread makes any difference matter as much as a lost game, also a penalty of .01 where nothing else
differs. There, where all rewards are the same, a penalty of c < 1 acts as the share c of a reward that is 1 lower: the
divisor is the spread of c = 1. Where rewards differ, they set the scale, and a penalty is what it takes from them.

`BaselineScope` "task" pools a task's tags, to measure ours against: (episode, tag) then stands for the episode above.
How many calls or tokens an episode had changes nothing here.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ajet.records import Episode, EpisodeGroup

AdvantageKind = Literal["grpo", "dr_grpo", "rloo"]
BaselineScope = Literal["tag", "task"]
STD_EPSILON = 1e-4
_SAME = 1e-12
"""Numbers closer than this, or than this share of the largest, are the same but for rounding."""
_Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupAdvantages:
    """What one group teaches."""

    values: Mapping[tuple[int, str], float]
    """Advantage by (repeat, agent name), usable episodes only."""
    zero_std_tags: frozenset[str]
    """Tags whose agents all had the same total in all episodes: they contribute zero."""
    singleton_tags: frozenset[str]
    """Tags with fewer than two usable episodes: they contribute zero, too."""
    tags: frozenset[str]
    """Every trained tag of the group."""
    by_tag: Mapping[str, tuple[float, ...]]
    """The same advantages by tag, for metrics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What one trained agent got in one episode."""

    repeat: int
    agent: str
    tag: str
    reward: float
    penalty: float


def group_advantages(
    group: EpisodeGroup, kind: AdvantageKind, *, format_penalty: float = 0.0, baseline_per: BaselineScope = "tag"
) -> GroupAdvantages:
    """Advantages of every trained agent in every usable episode of one task.

    Args:
        group: the task's episodes.
        kind: the baseline.
        format_penalty: taken from an agent's reward for each of its malformed replies, in units of reward.
        baseline_per: whether a tag's rewards are compared with its own only, or with those of all of the task's tags.
    """
    outcomes = [outcome for episode in group.episodes for outcome in _outcomes(episode, format_penalty)]
    pools: dict[str, list[_Outcome]] = defaultdict(list)
    for outcome in outcomes:
        pools[outcome.tag if baseline_per == "tag" else ""].append(outcome)
    values: dict[tuple[int, str], float] = {}
    single: set[str] = set()
    flat: set[str] = set()
    for pool in pools.values():
        tags = {outcome.tag for outcome in pool}
        advantages = np.zeros(len(pool))
        if len({outcome.repeat for outcome in pool}) < 2:
            single |= tags
        elif _all_same(np.array([outcome.reward - outcome.penalty for outcome in pool])):
            flat |= tags
        else:
            advantages = _advantages(pool, kind)
        for outcome, advantage in zip(pool, advantages, strict=True):
            values[outcome.repeat, outcome.agent] = float(advantage)
    by_tag: dict[str, list[float]] = defaultdict(list)
    for outcome in outcomes:
        by_tag[outcome.tag].append(values[outcome.repeat, outcome.agent])
    return GroupAdvantages(
        values=values,
        zero_std_tags=frozenset(flat),
        singleton_tags=frozenset(single),
        tags=frozenset(by_tag),
        by_tag={tag: tuple(found) for tag, found in by_tag.items()},
    )


def _outcomes(episode: Episode, format_penalty: float) -> list[_Outcome]:
    malformed = Counter(call.agent_name for call in episode.calls if call.format_error is not None)
    return [
        _Outcome(
            repeat=episode.repeat,
            agent=name,
            tag=episode.agent_tags[name],
            reward=reward,
            penalty=format_penalty * malformed[name],
        )
        for name, reward in episode.rewards.items()
    ]


def _all_same(values_A: _Array) -> bool:
    return bool(np.ptp(values_A) <= _SAME * max(1.0, float(np.abs(values_A).max())))


def _advantages(pool: Sequence[_Outcome], kind: AdvantageKind) -> _Array:
    """One advantage an agent in an episode (A) of outcomes that share a baseline and differ."""
    rewards_A: _Array = np.array([outcome.reward for outcome in pool], float)
    penalties_A: _Array = np.array([outcome.penalty for outcome in pool], float)
    totals_A: _Array = rewards_A - penalties_A
    # A power of two, so that nothing is rounded: huge rewards have squares, too.
    unit = 2.0 ** (math.frexp(float(np.abs(totals_A).max()))[1] - 1)
    scaled_A: _Array = totals_A / unit
    # The cells, C of them, are what counts once: (episode, tag).
    places = {key: i for i, key in enumerate(dict.fromkeys((outcome.repeat, outcome.tag) for outcome in pool))}
    cell_A = np.array([places[outcome.repeat, outcome.tag] for outcome in pool])
    means_C: _Array = _cell_means(scaled_A, cell_A)
    if kind == "rloo":
        repeats_C = np.array([repeat for repeat, _ in places])
        others_C: _Array = np.array([means_C[repeats_C != repeat].mean() for repeat in repeats_C])
        left_out_A: _Array = scaled_A - others_C[cell_A]
        return np.multiply(left_out_A, unit)
    centred_A: _Array = scaled_A - means_C.mean()
    if kind == "dr_grpo":
        return np.multiply(centred_A, unit)
    spread = math.sqrt(float(_cell_means(centred_A**2, cell_A).mean()) * len(places) / (len(places) - 1))
    cost = float(np.ptp(penalties_A))
    share = min(1.0, cost) if cost and _all_same(rewards_A) else 1.0
    return np.divide(centred_A, spread / share + STD_EPSILON / unit)


def _cell_means(values_A: _Array, cell_A: npt.NDArray[np.int64]) -> _Array:
    result: _Array = np.bincount(cell_A, weights=values_A) / np.bincount(cell_A)
    return result
