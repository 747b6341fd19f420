"""Held-out play: scores by task.

In: a scheduler and held-out tasks. Out: an `Evaluation`, plain data that is saved with the run and can be compared
with another of the same tasks. Evaluation uses random streams of its own and changes nothing in training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from ajet.evaluate.statistics import best_at_k, pass_at_k
from ajet.records import Episode, EpisodeGroup, Task
from ajet.rollout.scheduler import RolloutScheduler, require_usable_play
from ajet.tracking.metrics import Metrics, episode_metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Scores of one policy on held-out tasks."""

    scores: Mapping[str, float]
    """By task_id: the mean over `Episode.score` of the task's episodes: success, or reward where it is unknown."""
    rewards: Mapping[str, Mapping[str, float]]
    """By tag, then task_id: mean reward."""
    num_lost_tasks: int
    """Tasks none of whose episodes could be used."""
    metrics: Metrics
    """The same names as in training, without the prefix `eval/`."""
    attempts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """By measure, then task_id: what the best of k episodes reaches; empty where tasks were played once."""
    seats: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """By `<tag>/<agent name>`, then task_id: mean reward; the same role in another seat may fare otherwise."""

    def to_json(self) -> dict[str, Any]:
        """As plain data for a checkpoint or summary."""
        return asdict(self)


async def play_held_out(
    scheduler: RolloutScheduler, tasks: Sequence[Task], *, repeats: int, collection: str
) -> tuple[Evaluation, list[EpisodeGroup]]:
    """Play every task `repeats` times and score it.

    Args:
        scheduler: plays the policy that is evaluated.
        tasks: the same for all policies that are compared.
        repeats: episodes of each task.
        collection: tells this evaluation from all others of the run, whose randomness is the same.

    Raises:
        WorkflowError, ConfigError: as `require_usable_play`.
    """
    groups = await scheduler.collect(tasks, group_size=repeats, stream="eval", collection=collection)
    require_usable_play(groups)
    return score_groups(groups), groups


def score_groups(groups: Sequence[EpisodeGroup]) -> Evaluation:
    """Scores by task; lost episodes are left out and counted."""
    usable = {group.task.task_id: [episode for episode in group.episodes if episode.usable] for group in groups}
    scores = {task: fmean(scored) for task, episodes in usable.items() if (scored := _scores(episodes))}
    attempts = score_attempts(groups)
    return Evaluation(
        scores=scores,
        rewards=_by_task({task: [one.tag_rewards() for one in episodes] for task, episodes in usable.items()}),
        seats=_by_task({task: [_seat_rewards(one) for one in episodes] for task, episodes in usable.items()}),
        num_lost_tasks=len(groups) - len(scores),
        metrics=episode_metrics(groups)
        | {f"episode/{name}": fmean(by_task.values()) for name, by_task in attempts.items()},
        attempts=attempts,
    )


def _by_task(rewards: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Rewards by task_id, episode and name -> their means over episodes by name, sorted, and task_id."""
    found: dict[str, dict[str, float]] = {}
    for task, episodes in rewards.items():
        for name in {name for episode in episodes for name in episode}:
            found.setdefault(name, {})[task] = fmean(episode[name] for episode in episodes if name in episode)
    return dict(sorted(found.items()))


def _seat_rewards(episode: Episode) -> dict[str, float]:
    return {f"{episode.agent_tags[agent]}/{agent}": reward for agent, reward in episode.rewards.items()}


def _scores(episodes: Sequence[Episode]) -> list[float]:
    return [score for episode in episodes if (score := episode.score) is not None]


def score_attempts(groups: Sequence[EpisodeGroup]) -> dict[str, dict[str, float]]:
    """What the best of k episodes of a task reaches, for k = 2, 4, 8, … up to the most usable episodes of a task.

    Returns:
        `pass@<k>` (success) and `best@<k>` (score), each by the task_id of the tasks with at least k usable episodes.
    """
    usable = {group.task.task_id: [one for one in group.episodes if one.score is not None] for group in groups}
    most = max(map(len, usable.values()), default=0)
    attempts: dict[str, dict[str, float]] = {}
    for k in (2**power for power in range(1, most.bit_length())):
        enough = {task: episodes for task, episodes in usable.items() if len(episodes) >= k}
        judged = {task: sum(bool(e.is_success) for e in those) for task, those in enough.items() if _all_judged(those)}
        if judged:
            attempts[f"pass@{k}"] = {task: pass_at_k(len(usable[task]), wins, k) for task, wins in judged.items()}
        attempts[f"best@{k}"] = {task: best_at_k(_scores(those), k) for task, those in enough.items()}
    return attempts


def _all_judged(episodes: Sequence[Episode]) -> bool:
    return all(episode.is_success is not None for episode in episodes)


def evaluation_from_json(data: Mapping[str, Any]) -> Evaluation:
    """The inverse of `Evaluation.to_json`."""
    return Evaluation(**data)
