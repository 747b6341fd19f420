"""A finished run's checkpoint against its starting model, on the same held-out tasks.

In: a scheduler whose engine holds the starting weights, a way to the checkpoint. Out: `evaluation.json` and a table.
Nothing of the run itself is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ajet.errors import RunInterruptedError
from ajet.evaluate.scores import Evaluation, play_held_out
from ajet.evaluate.summary import comparison, results_table, seats_table, write_summary
from ajet.records import Task
from ajet.rollout.runtime import Interrupted, RolloutRuntime
from ajet.rollout.scheduler import RolloutScheduler
from ajet.tracking.console import Display
from ajet.tracking.store import TrajectoryStore


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedEvaluation:
    """Plays every held-out task with both policies."""

    name: str
    """What is compared with the starting model, e.g. `step_20`."""
    tasks: Sequence[Task]
    repeats: int
    confidence: float
    take_checkpoint: Callable[[], None]
    """Puts the checkpoint's weights in place of the starting ones that the engine holds at first."""
    runtime: RolloutRuntime
    scheduler: RolloutScheduler
    display: Display
    output_dir: Path
    close: Callable[[], None]

    def run(self) -> None:
        """Play both and report.

        Raises:
            RunInterruptedError: Ctrl-C; what was played so far is dropped.
        """
        self.display.start(first_step=0, total_steps=2)
        try:
            with self.runtime:
                before = self._play(0)
                self.take_checkpoint()
                after = self._play(1)
        except Interrupted as stop:
            raise RunInterruptedError(
                "interrupted: the evaluation was dropped, the run is as it was", stop.signum
            ) from None
        finally:
            self.display.stop()
            self.close()
        rows = comparison(before, after, confidence=self.confidence)
        write_summary(
            self.output_dir / "evaluation.json",
            {
                "checkpoint": self.name,
                "confidence": self.confidence,
                "comparison": rows,
                "before": before.to_json(),
                "after": after.to_json(),
            },
        )
        self.display.table(results_table(rows, confidence=self.confidence))
        self.display.table(seats_table(rows, confidence=self.confidence))
        self.display.say(f"starting model against {self.name}; written to {self.output_dir}")

    def _play(self, version: int) -> Evaluation:
        self.display.phase("eval", len(self.tasks) * self.repeats)
        evaluation, groups = self.runtime.run(play_held_out(self.scheduler, self.tasks, repeats=self.repeats))
        TrajectoryStore(self.output_dir / "trajectories").write(groups, {}, step=version, split="eval")
        return evaluation
