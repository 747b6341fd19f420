"""A few episodes to look at: no training, no retries; told as they happen and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ajet.errors import RunInterruptedError, WorkflowError
from ajet.records import EpisodeGroup, Task
from ajet.rollout.runtime import Interrupted, RolloutRuntime
from ajet.rollout.scheduler import RolloutScheduler, uncalled_agents_text


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayRun:
    """Plays every task once."""

    tasks: Sequence[Task]
    scheduler: RolloutScheduler
    runtime: RolloutRuntime
    keep: Callable[[Sequence[EpisodeGroup]], Path]
    """Writes the trajectories and says where they are."""
    transcript_path: Path
    say: Callable[[str], None]
    close: Callable[[], None]

    def run(self) -> None:
        """Play, keep, say where.

        Raises:
            RunInterruptedError: Ctrl-C.
            WorkflowError: an episode failed, not by the policy's own fault; its traceback has been told.
        """
        try:
            with self.runtime:
                groups = self.runtime.run(self.scheduler.collect(self.tasks, group_size=1, stream="play"))
        except Interrupted as stop:
            raise RunInterruptedError(
                f"interrupted: what was played stands in {self.transcript_path}", stop.signum
            ) from None
        finally:
            self.close()
        kept = self.keep(groups)
        self.say(f"\ntranscript: {self.transcript_path}\ntrajectories: {kept}")
        handed_out = [
            group.episodes[0] for group in groups if group.episodes[0].usable and group.episodes[0].agent_tags
        ]
        if handed_out and not any(call.trained for episode in handed_out for call in episode.calls):
            self.say(f"No trained agent was asked: {uncalled_agents_text(handed_out)}")
        failed = [group.task.task_id for group in groups if not group.episodes[0].usable]
        if failed:
            raise WorkflowError(f"{len(failed)} of {len(groups)} episodes failed: {', '.join(failed)}")
