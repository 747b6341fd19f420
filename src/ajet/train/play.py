"""The episodes that a run asks for: of a training step, held-out ones, and those of later steps ahead of their turn.

In: a step. Out: its groups of episodes, from all ranks, or what play ended with. Ahead of their turn episodes are
played in the main thread, where signals arrive and blocked calls are ended, whenever that waits for play or for what is
done meanwhile in another thread; torch leaves Python's lock. With `rollout.max_steps_off_policy` = N step k is begun
when step k - N is trained, so that its weights are at most N updates old. Left out: how an episode is played
(`ajet.rollout`), and what is learned from it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from ajet.config.groups import EvalConfig, RolloutConfig
from ajet.data.source import TaskSource
from ajet.records import EpisodeGroup, Replay, ReplayRequest, Task
from ajet.rollout.runtime import Playing, RolloutRuntime
from ajet.rollout.scheduler import (
    NOT_REPRODUCIBLE,
    RolloutScheduler,
    require_trained_play,
    require_usable_play,
    require_usable_replays,
)
from ajet.tracking.console import Display
from ajet.tracking.metrics import Metrics
from ajet.train.clock import PhaseClock
from ajet.train.ranks import Ranks

T = TypeVar("T")

SPARES_FROM = 2**20
"""A step of the source of tasks that no run reaches. Tasks that may replace others are drawn behind it, so that those
of steps are the same with and without them, and are a function of run seed and step, too: a resumed run draws the
same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayedStep:
    """The groups of a training step, of all ranks."""

    groups: list[EpisodeGroup]
    """What is trained on, a group for each task of the step."""
    replaced: list[EpisodeGroup]
    """Groups that taught nothing, in whose place others were played (`rollout.max_resamples`)."""

    @property
    def played(self) -> list[EpisodeGroup]:
        """All of them. Over these the mean reward is the policy's; that of the groups that are trained on alone lies
        nearer to the middle."""
        return [*self.groups, *self.replaced]


@dataclass(slots=True, kw_only=True)
class Play:
    """All that plays for one run."""

    rollout: RolloutConfig
    eval: EvalConfig
    total_steps: int
    tasks: TaskSource
    runtime: RolloutRuntime
    scheduler: RolloutScheduler
    ranks: Ranks
    display: Display
    clock: PhaseClock
    teaches: Callable[[EpisodeGroup], bool]
    """Whether a group has any reward to learn from."""
    on_group: Callable[[EpisodeGroup], None] | None = None
    """Told of each group of a training step as soon as its episodes are there; None: nobody asks."""
    _ahead: dict[int, Playing[list[list[EpisodeGroup]]]] = field(default_factory=dict)
    """This rank's part of steps whose turn has not come; the same steps on every rank."""
    _slots: asyncio.Semaphore = field(init=False)
    """Of episodes at once, whatever they are for; who came first is first."""

    _warned: bool = False
    """Whether it was said that the workflow is not reproducible."""

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.scheduler.concurrency)

    def training_step(self, step: int) -> PlayedStep:
        """The episodes of a training step, from 0; errors as `require_trained_play`, and of play itself."""
        if step in self._ahead:
            self.clock.add_overlapped("rollout", self._ahead[step].seconds())
        for coming in range(step, step + max(1, self.rollout.max_steps_off_policy)):
            self._begin(coming)
        with self.clock.phase("rollout"):
            played = self._gathered(self._ahead.pop(step))
        result = PlayedStep(
            groups=[groups[-1] for groups in played], replaced=[group for groups in played for group in groups[:-1]]
        )
        require_trained_play(result.played, max_lost_fraction=self.rollout.max_lost_fraction)
        return result

    def resampling_metrics(self, step: PlayedStep) -> Metrics:
        """`group/resampled` and `group/still_silent`; nothing where no group is replaced."""
        if not self.rollout.max_resamples:
            return {}
        silent = sum(not self.teaches(group) for group in step.groups)
        return {"group/resampled": float(len(step.replaced)), "group/still_silent": float(silent)}

    def again(self, step: int, requests: Sequence[ReplayRequest]) -> list[Replay]:
        """Episodes of a training step once more, as its credit rule has asked for them.

        Raises:
            WorkflowError: none of the replays can be used.
            AjetError: of play itself.
        """

        async def play() -> list[Replay]:
            mine = self.ranks.share(requests)
            self.display.phase("credit", len(mine))
            return await self.scheduler.replay(mine, stream=f"train/{step}", slots=self._slots)

        if not requests:
            return []
        with self.clock.phase("credit"):
            replays = self._gathered(self.runtime.begin(play()))
        require_usable_replays(replays)
        num_others = sum(not replay.is_reproduced for replay in replays if replay.episode.usable)
        if num_others and not self._warned:
            self._warned = True
            self.display.say(f"warning: {num_others} of {len(replays)} replays cannot be used: {NOT_REPRODUCIBLE}")
        return replays

    def held_out(self, step: int) -> list[EpisodeGroup]:
        """The episodes of an evaluation after `step` updates; errors as `require_usable_play`, and of play itself."""

        def tasks() -> Sequence[Sequence[Task]]:
            return [(task,) for task in self.tasks.held_out_tasks(self.eval.num_tasks, offset=self.eval.seed_offset)]

        with self.clock.phase("eval"):
            playing = self._playing("eval", tasks, self.eval.repeats, stream="eval", collection=f"eval/{step}")
            groups = [group for groups in self._gathered(playing) for group in groups]
        require_usable_play(groups)
        return groups

    def while_training(self, step: int, train: Callable[[], None]) -> None:
        """Train on the episodes of a step, and play those of later ones meanwhile.

        Raises:
            Exception: what training raised, at once. What play raised waits for its turn.
        """
        self._begin(step + self.rollout.max_steps_off_policy)
        self.meanwhile(train)

    def meanwhile(self, work: Callable[[], T]) -> T:
        """Do what takes its time, and play meanwhile what was begun."""
        return self.runtime.beside(work) if self._ahead else work()

    def _begin(self, step: int) -> None:
        """Begin to play a step of the run, unless that was done."""
        if step not in self._ahead and step < self.total_steps:
            stream = f"train/{step}"
            candidates = partial(step_candidates, self.tasks, step, self.rollout)
            self._ahead[step] = self._playing(
                "rollout", candidates, self.rollout.group_size, stream=stream, collection=stream, on_group=self.on_group
            )

    def _playing(
        self,
        phase: str,
        candidates: Callable[[], Sequence[Sequence[Task]]],
        num_episodes: int,
        *,
        stream: str,
        collection: str,
        on_group: Callable[[EpisodeGroup], None] | None = None,
    ) -> Playing[list[list[EpisodeGroup]]]:
        """This rank's groups of episodes, in the order of its tasks, each behind those that it replaces."""

        def is_enough(group: EpisodeGroup) -> bool:
            enough = self.teaches(group)
            if not enough:
                self.display.expect(num_episodes)
            return enough

        async def play() -> list[list[EpisodeGroup]]:
            mine = self.ranks.share(candidates())
            self.display.phase(phase, len(mine) * num_episodes)
            return await self.scheduler.collect_resampled(
                mine,
                is_enough=is_enough,
                group_size=num_episodes,
                stream=stream,
                collection=collection,
                slots=self._slots,
                on_group=on_group,
            )

        return self.runtime.begin(play())

    def _gathered(self, playing: Playing[list[T]]) -> list[T]:
        """What all ranks have played, in the order of what they shared out."""
        self.runtime.wait(playing)
        return self.meanwhile(lambda: self.ranks.together(lambda: self.runtime.result(playing)))


def step_candidates(tasks: TaskSource, step: int, rollout: RolloutConfig) -> list[tuple[Task, ...]]:
    """For each group of a training step the tasks that it may be of: its own first, then those that may replace it. No
    task stands twice.

    Raises:
        ConfigError: the source has fewer tasks.
    """
    own = tasks.train_tasks(step, rollout.num_tasks)
    if not rollout.max_resamples:
        return [(task,) for task in own]
    taken = {task.task_id for task in own}
    # As many again as the step has, for those that it has already.
    drawn = tasks.train_tasks(SPARES_FROM + step, rollout.num_candidates)
    spares = [task for task in drawn if task.task_id not in taken]
    return [(task, *spares[i :: len(own)][: rollout.max_resamples]) for i, task in enumerate(own)]
