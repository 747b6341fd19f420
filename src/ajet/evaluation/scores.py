"""Held-out play: scores by task.

In: a scheduler and held-out tasks. Out: an `Evaluation`, plain data that is saved with the run and can be compared
with another of the same tasks. Evaluation uses random streams of its own and changes nothing in training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from ajet.records import Episode, EpisodeGroup, Task
from ajet.rollout.scheduler import RolloutScheduler, require_trained_play
from ajet.statistics import best_at_k, pass_at_k
from ajet.tracking.metrics import Metrics, episode_metrics


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
        metrics=episode_metrics(groups) | attempts_metrics(groups),
    )


def _score(episode: Episode) -> float:
    if episode.is_success is not None:
        return float(episode.is_success)
    return fmean(episode.tag_rewards().values())


def attempts_metrics(groups: Sequence[EpisodeGroup]) -> Metrics:
    """What the best of k episodes of a task reaches, for k = 2, 4, 8, … up to the most usable episodes of a task.

    Returns:
        `episode/pass@<k>` (success) and `episode/best@<k>` (score), means over tasks with at least k usable episodes.
    """
    usable = [[episode for episode in group.episodes if episode.usable] for group in groups]
    most = max((len(episodes) for episodes in usable), default=0)
    metrics: Metrics = {}
    for k in (2**power for power in range(1, most.bit_length())):
        enough = [episodes for episodes in usable if len(episodes) >= k]
        judged = [[bool(e.is_success) for e in episodes] for episodes in enough if _all_judged(episodes)]
        if judged:
            metrics[f"episode/pass@{k}"] = fmean(pass_at_k(len(wins), sum(wins), k) for wins in judged)
        metrics[f"episode/best@{k}"] = fmean(best_at_k([_score(e) for e in episodes], k) for episodes in enough)
    return metrics


def _all_judged(episodes: Sequence[Episode]) -> bool:
    return all(episode.is_success is not None for episode in episodes)


def evaluation_from_json(data: Mapping[str, Any]) -> Evaluation:
    """The inverse of `Evaluation.to_json`."""
    return Evaluation(**data)
