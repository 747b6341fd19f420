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
from ajet.train.clock import PhaseClock
from ajet.train.ranks import Ranks

T = TypeVar("T")


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
    on_group: Callable[[EpisodeGroup], None] | None = None
    """Told of each group of a training step as soon as its episodes are there; None: nobody asks."""
    _ahead: dict[int, Playing[list[EpisodeGroup]]] = field(default_factory=dict)
    """This rank's part of steps whose turn has not come; the same steps on every rank."""
    _slots: asyncio.Semaphore = field(init=False)
    """Of episodes at once, whatever they are for; who came first is first."""

    _warned: bool = False
    """Whether it was said that the workflow is not reproducible."""

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.scheduler.concurrency)

    def training_step(self, step: int) -> list[EpisodeGroup]:
        """The episodes of a training step, from 0; errors as `require_trained_play`, and of play itself."""
        if step in self._ahead:
            self.clock.add_overlapped("rollout", self._ahead[step].seconds())
        for coming in range(step, step + max(1, self.rollout.max_steps_off_policy)):
            self._begin(coming)
        with self.clock.phase("rollout"):
            groups = self._gathered(self._ahead.pop(step))
        require_trained_play(groups, max_lost_fraction=self.rollout.max_lost_fraction)
        return groups

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

        def tasks() -> Sequence[Task]:
            return self.tasks.held_out_tasks(self.eval.num_tasks, offset=self.eval.seed_offset)

        with self.clock.phase("eval"):
            playing = self._playing("eval", tasks, self.eval.repeats, stream="eval", collection=f"eval/{step}")
            groups = self._gathered(playing)
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
            tasks = partial(self.tasks.train_tasks, step, self.rollout.num_tasks)
            self._ahead[step] = self._playing(
                "rollout", tasks, self.rollout.group_size, stream=stream, collection=stream, on_group=self.on_group
            )

    def _playing(
        self,
        phase: str,
        tasks: Callable[[], Sequence[Task]],
        num_episodes: int,
        *,
        stream: str,
        collection: str,
        on_group: Callable[[EpisodeGroup], None] | None = None,
    ) -> Playing[list[EpisodeGroup]]:
        """This rank's groups of episodes, in the order of its tasks."""

        async def play() -> list[EpisodeGroup]:
            mine = self.ranks.share(tasks())
            self.display.phase(phase, len(mine) * num_episodes)
            return await self.scheduler.collect(
                mine,
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
