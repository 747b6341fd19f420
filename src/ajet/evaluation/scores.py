"""Held-out play and what it proves: scores by task, paired differences with intervals.

In: a scheduler and held-out tasks. Out: an `Evaluation`, plain data that is saved with the run and can be compared
with another of the same tasks. Evaluation uses random streams of its own and changes nothing in training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

from scipy import stats

from ajet.records import Episode, EpisodeGroup, Task
from ajet.rollout.scheduler import RolloutScheduler, require_trained_play
from ajet.tracking.metrics import Metrics, episode_metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean with its confidence interval."""

    mean: float
    low: float
    high: float
    num: int
    """Tasks (or pairs of tasks) it rests on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Scores of one policy on held-out tasks."""

    scores: Mapping[str, float]
    """By task_id: success rate over the task's usable episodes, or their mean reward where success is unknown."""
    rewards: Mapping[str, Mapping[str, float]]
    """By tag, then task_id: mean reward."""
    num_lost_tasks: int
    """Tasks none of whose episodes could be used."""
    metrics: Metrics
    """The same names as in training, without the prefix `eval/`."""

    def to_json(self) -> dict[str, Any]:
        """As plain data for a checkpoint or summary."""
        return asdict(self)


async def play_held_out(
    scheduler: RolloutScheduler, tasks: Sequence[Task], *, repeats: int
) -> tuple[Evaluation, list[EpisodeGroup]]:
    """Play every task `repeats` times and score it.

    Raises:
        WorkflowError, ConfigError: as `require_trained_play`.
    """
    groups = await scheduler.collect(tasks, group_size=repeats, stream="eval")
    require_trained_play(groups)
    return score_groups(groups), groups


def score_groups(groups: Sequence[EpisodeGroup]) -> Evaluation:
    """Scores by task; lost episodes are left out and counted."""
    scores: dict[str, float] = {}
    rewards: dict[str, dict[str, float]] = {}
    for group in groups:
        usable = [episode for episode in group.episodes if episode.usable]
        if not usable:
            continue
        scores[group.task.task_id] = fmean(_score(episode) for episode in usable)
        by_tag: dict[str, list[float]] = {}
        for episode in usable:
            for tag, reward in episode.tag_rewards().items():
                by_tag.setdefault(tag, []).append(reward)
        for tag, values in by_tag.items():
            rewards.setdefault(tag, {})[group.task.task_id] = fmean(values)
    return Evaluation(
        scores=scores,
        rewards=rewards,
        num_lost_tasks=len(groups) - len(scores),
        metrics=episode_metrics(groups),
    )


def _score(episode: Episode) -> float:
    if episode.is_success is not None:
        return float(episode.is_success)
    return fmean(episode.tag_rewards().values())


def mean_interval(values: Sequence[float], *, confidence: float) -> Interval:
    """Student's t interval of the mean of independent values.

    With fewer than two values the interval is the whole line.
    """
    if len(values) < 2:
        mean = fmean(values) if values else math.nan
        return Interval(mean=mean, low=-math.inf, high=math.inf, num=len(values))
    mean = fmean(values)
    half = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return Interval(mean=mean, low=mean - half, high=mean + half, num=len(values))


def paired_difference(before: Mapping[str, float], after: Mapping[str, float], *, confidence: float) -> Interval:
    """`after - before` over the tasks that both have: the same seeds, so what the seed decides cancels out."""
    pairs = [after[task] - before[task] for task in before if task in after]
    return mean_interval(pairs, confidence=confidence)


def evaluation_from_json(data: Mapping[str, Any]) -> Evaluation:
    """The inverse of `Evaluation.to_json`."""
    return Evaluation(**data)
