"""The episodes that a run asks for: of a training step, held-out ones, and those of the next step ahead of their turn.

In: a step. Out: its groups of episodes, from all ranks, or what play ended with. Ahead of their turn they are played in
the main thread, where signals arrive and blocked calls are ended, while training goes on in another; torch leaves
Python's lock. Left out: how an episode is played (`ajet.rollout`), and what is learned from it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ajet.config.groups import EvalConfig, RolloutConfig
from ajet.data.source import TaskSource
from ajet.errors import AjetError
from ajet.records import EpisodeGroup, Task
from ajet.rollout.runtime import Interrupted, RolloutRuntime
from ajet.rollout.scheduler import RolloutScheduler, require_trained_play, require_usable_play
from ajet.tracking.console import Display
from ajet.train.clock import PhaseClock
from ajet.train.ranks import Ranks


@dataclass(slots=True, kw_only=True)
class Play:
    """All that plays for one run."""

    rollout: RolloutConfig
    eval: EvalConfig
    tasks: TaskSource
    runtime: RolloutRuntime
    scheduler: RolloutScheduler
    ranks: Ranks
    display: Display
    clock: PhaseClock
    _ahead: _PlayedAhead | None = None

    def training_step(self, step: int) -> list[EpisodeGroup]:
        """The episodes of a training step, from 0; errors as `require_trained_play`, and of play itself."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            with self.clock.phase("rollout"):
                groups = self.ranks.together(lambda: self._of_step(step))
        else:
            self.clock.add("rollout", ahead.seconds, overlap_s=ahead.overlap_s)
            groups = ahead.result()
        require_trained_play(groups, max_lost_fraction=self.rollout.max_lost_fraction)
        return groups

    def held_out(self, step: int) -> list[EpisodeGroup]:
        """The episodes of an evaluation after `step` updates; errors as `require_usable_play`, and of play itself."""
        tasks = self.tasks.held_out_tasks(self.eval.num_tasks, offset=self.eval.seed_offset)
        with self.clock.phase("eval"):
            groups = self.ranks.together(
                lambda: self._mine("eval", tasks, self.eval.repeats, stream="eval", collection=f"eval/{step}")
            )
        require_usable_play(groups)
        return groups

    def while_training(self, step: int, train: Callable[[], None]) -> None:
        """Train, and meanwhile play `step`, whose episodes `training_step` then has; until both have ended.

        Raises:
            Exception: what training raised. What play raised waits for its turn.
        """
        self._ahead = _played_while(train, lambda: self._of_step(step))

    def _of_step(self, step: int) -> list[EpisodeGroup]:
        stream = f"train/{step}"
        tasks = self.tasks.train_tasks(step, self.rollout.num_tasks)
        return self._mine("rollout", tasks, self.rollout.group_size, stream=stream, collection=stream)

    def _mine(
        self, phase: str, tasks: Sequence[Task], num_episodes: int, *, stream: str, collection: str
    ) -> list[EpisodeGroup]:
        """This rank's groups of episodes, in the order of its tasks."""
        mine = self.ranks.share(tasks)
        self.display.phase(phase, len(mine) * num_episodes)
        return self.runtime.run(
            self.scheduler.collect(mine, group_size=num_episodes, stream=stream, collection=collection)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _PlayedAhead:
    """Episodes of a step that has not come yet."""

    groups: Sequence[EpisodeGroup]
    failure: AjetError | Interrupted | OSError | None
    seconds: float
    """Of the play."""
    overlap_s: float
    """How many of them passed while the step before was trained."""

    def result(self) -> list[EpisodeGroup]:
        """The episodes; raises what play ended with instead."""
        if self.failure is not None:
            raise self.failure
        return list(self.groups)


def _played_while(train: Callable[[], None], play: Callable[[], Sequence[EpisodeGroup]]) -> _PlayedAhead:
    """Train and play at once, until both have ended.

    Raises:
        Exception: what training raised. What play raised is kept: the step that was trained is done nevertheless.
    """
    groups: Sequence[EpisodeGroup] = ()
    failure: AjetError | Interrupted | OSError | None = None
    start = time.perf_counter()
    with ThreadPoolExecutor(1, thread_name_prefix="ajet-train") as thread:
        training = thread.submit(_seconds_of, train)
        try:
            groups = play()
        except (AjetError, Interrupted, OSError) as error:
            failure = error
        seconds = time.perf_counter() - start
    return _PlayedAhead(groups=groups, failure=failure, seconds=seconds, overlap_s=min(seconds, training.result()))


def _seconds_of(train: Callable[[], None]) -> float:
    start = time.perf_counter()
    train()
    return time.perf_counter() - start
