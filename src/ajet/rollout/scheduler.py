"""Groups of episodes, many at once: concurrency, retries, progress.

In: tasks. Out: one `EpisodeGroup` a task, in the order of the tasks, with all its episodes whatever became of them; or
as many as it takes until one is enough.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ajet.errors import AjetError, ConfigError, WorkflowError
from ajet.records import Episode, EpisodeGroup, Replay, ReplayRequest, Task
from ajet.rollout.runner import EpisodeRunner

RETRIED = ("infra_error", "timeout")
"""Statuses that say nothing about the policy, so the episode is played again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutScheduler:
    """Plays groups with bounded concurrency. Episodes start in order, so runs of one seed schedule alike."""

    runner: EpisodeRunner
    concurrency: int
    """Episodes at once."""
    max_retries: int
    """Further attempts at an episode that failed for no fault of the policy."""

    async def collect(
        self,
        tasks: Sequence[Task],
        *,
        group_size: int,
        stream: str,
        collection: str | None = None,
    ) -> list[EpisodeGroup]:
        """Play `group_size` episodes of every task; `stream` and `collection` are as in `EpisodeRunner.run`.

        Raises:
            AjetError: from the first episode that met it, e.g. ConfigError, EngineLostError; the others are cancelled.
        """
        wanted = [(task,) for task in tasks]
        played = await self.collect_resampled(
            wanted, is_enough=lambda _: True, group_size=group_size, stream=stream, collection=collection
        )
        return [groups[-1] for groups in played]

    async def collect_resampled(
        self,
        candidates: Sequence[Sequence[Task]],
        *,
        is_enough: Callable[[EpisodeGroup], bool],
        group_size: int,
        stream: str,
        collection: str | None = None,
        slots: asyncio.Semaphore | None = None,
        on_group: Callable[[EpisodeGroup], None] | None = None,
    ) -> list[list[EpisodeGroup]]:
        """Play each group anew with its next candidate until one is enough; errors as `collect`.

        Groups do not wait for each other, and what becomes of one depends on its own candidates alone, whatever is
        played beside it and in how many processes.

        Args:
            candidates: for each group the tasks that it may be of, at least one, in the order in which they are tried.
            is_enough: whether a group stays; not asked where there is no other candidate.
            group_size, stream, collection: as for `collect`.
            slots: shared with other collections that are played at once; None: `concurrency` of its own.
            on_group: is told of each group that stays as soon as all of its episodes are there; must not block.

        Returns:
            For each group what was played: the last is the one that stays.
        """
        slots = slots or asyncio.Semaphore(self.concurrency)

        async def play(running: asyncio.TaskGroup, tasks: Sequence[Task]) -> list[EpisodeGroup]:
            groups: list[EpisodeGroup] = []
            for task in tasks:
                plays = [
                    running.create_task(self._play(slots, task, repeat, stream, collection))
                    for repeat in range(group_size)
                ]
                await asyncio.wait(plays)
                groups.append(EpisodeGroup(task=task, episodes=tuple(each.result() for each in plays)))
                if len(groups) < len(tasks) and is_enough(groups[-1]):
                    break
            if on_group is not None:
                on_group(groups[-1])
            return groups

        with _first_of_many():
            async with asyncio.TaskGroup() as running:
                results = [running.create_task(play(running, tasks)) for tasks in candidates]
        return [result.result() for result in results]

    async def replay(
        self, requests: Sequence[ReplayRequest], *, stream: str, slots: asyncio.Semaphore | None = None
    ) -> list[Replay]:
        """Play episodes of a stream again, in the order of the requests; `slots` as of `collect_resampled`, errors as
        of `collect`."""
        slots = slots or asyncio.Semaphore(self.concurrency)
        with _first_of_many():
            async with asyncio.TaskGroup() as running:
                plays = [running.create_task(self._replay(slots, request, stream)) for request in requests]
        return [play.result() for play in plays]

    async def _play(
        self, slots: asyncio.Semaphore, task: Task, repeat: int, stream: str, collection: str | None
    ) -> Episode:
        async with slots:
            for attempt in range(self.max_retries + 1):
                episode = await self.runner.run(
                    task, repeat=repeat, stream=stream, attempt=attempt, collection=collection
                )
                if episode.status not in RETRIED:
                    break
        self.runner.callbacks.on_episode(episode)
        return episode

    async def _replay(self, slots: asyncio.Semaphore, request: ReplayRequest, stream: str) -> Replay:
        async with slots:
            for attempt in range(self.max_retries + 1):
                replay = await self.runner.replay(request, stream=stream, attempt=attempt)
                if replay.episode.status not in RETRIED:
                    break
        self.runner.callbacks.on_episode(replay.episode)
        return replay


@contextmanager
def _first_of_many() -> Iterator[None]:
    """Around episodes that are played at once: of the errors of many alike, the first sentence.

    Raises:
        AjetError, OSError: a setting that no episode can work with, a file that cannot be written.
    """
    try:
        yield
    except ExceptionGroup as failures:
        told = failures.subgroup((AjetError, OSError))
        if told is None:
            raise
        raise told.exceptions[0] from None


def require_usable_play(groups: Sequence[EpisodeGroup], *, max_lost_fraction: float = 1.0) -> list[Episode]:
    """The episodes that ended with a reward.

    Raises:
        WorkflowError: every episode failed, or more than this share of them; the message says how the first one did.
        ConfigError: no agent was trained: no tag of the workflow is among the trainable targets.
    """
    episodes = [episode for group in groups for episode in group.episodes]
    lost = [episode for episode in episodes if not episode.usable]
    if len(lost) == len(episodes):
        raise WorkflowError(f"All {len(episodes)} episodes failed, the first with: {episodes[0].error}")
    if len(lost) > max_lost_fraction * len(episodes):
        raise WorkflowError(
            f"{len(lost)} of {len(episodes)} episodes were lost, more than rollout.max_lost_fraction="
            f"{max_lost_fraction:g} allows, the first with: {lost[0].error}"
        )
    if not any(episode.agent_tags for episode in episodes):
        raise ConfigError(
            "No agent was trained in any episode: is a tag that the workflow uses among trainable_targets? "
            "null trains every agent."
        )
    return [episode for episode in episodes if episode.usable]


def require_trained_play(groups: Sequence[EpisodeGroup], *, max_lost_fraction: float = 1.0) -> None:
    """Stop a run that could last for hours without learning anything, or from what few episodes survive.

    Held-out play need only be usable: against a random opponent, an agent may never have its turn.

    Raises:
        WorkflowError, ConfigError: as `require_usable_play`; or no trained agent received a reply in any episode.
    """
    usable = require_usable_play(groups, max_lost_fraction=max_lost_fraction)
    if not any(call.trained for episode in usable for call in episode.calls):
        raise WorkflowError(
            f"No trained agent was asked in any of {len(usable)} episodes: {uncalled_agents_text(usable)}"
        )


def require_usable_replays(replays: Sequence[Replay]) -> None:
    """Stop a run whose credit rule learns nothing from what it has played again.

    Raises:
        WorkflowError: there are replays, and none can be used; the message says why.
    """
    if not replays or any(replay.usable for replay in replays):
        return
    lost = [replay.episode.error for replay in replays if not replay.episode.usable]
    if lost:
        raise WorkflowError(f"None of {len(replays)} replays for the credit rule can be used: {lost[0]}")
    raise WorkflowError(f"None of {len(replays)} replays for the credit rule can be used: {NOT_REPRODUCIBLE}")


NOT_REPRODUCIBLE = (
    "the workflow is not reproducible, as with the same task, seed and replies it made other requests than before. "
    "Seed whatever it draws by the task (task.metadata), and let nothing depend on the clock or on earlier episodes"
)


def uncalled_agents_text(episodes: Sequence[Episode]) -> str:
    """Why trained agents may have been handed out and got no call, for the user who wrote the workflow."""
    num_overflows = sum(episode.num_context_overflows for episode in episodes)
    if num_overflows:
        return (
            f"{num_overflows} requests did not fit into the model's context. Shorten them, or raise model.max_context."
        )
    num_undelivered = sum(episode.num_undelivered_calls for episode in episodes)
    if num_undelivered:
        return (
            f"{num_undelivered} requests came, but their client hung up or was cancelled before the reply was there. "
            "Give it a longer timeout."
        )
    return (
        "their models were handed out and no request came. Does the program use them? If so, the episodes may have "
        "ended before their turn, e.g. by an illegal move of an agent that is not trained (choose another opponent, or "
        "train it too), or a cache of its client may have answered (e.g. LangChain's set_llm_cache): turn that off."
    )
