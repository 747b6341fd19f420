"""The end of a run: times, memory, and its evaluations with what lies between them, to `summary.json` and screen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ajet.evaluate.scores import Evaluation
from ajet.evaluate.summary import comparison, write_summary
from ajet.evaluate.tables import results_table, times_table
from ajet.plan.parts import planned_words
from ajet.tracking.console import Display


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """What a run came to."""

    num_steps: int
    wall_time_s: Mapping[str, float]
    """Seconds by phase, of the whole run."""
    peak_memory_gib: float
    """The most that the process held; GPU memory is not counted."""
    largest_pack: int
    """Tokens of the largest pack that this process knew of."""
    planned_gib: float | None
    """What its largest peak was to be by its plan, with that pack, on the device where the model is; None where that is
    elsewhere."""
    measured_gib: float
    """What it was there."""
    before: Evaluation | None
    """Of the starting policy."""
    after: Evaluation | None
    """Of the trained one."""
    confidence: float
    """Coverage of the intervals of their differences."""

    def write(self, run_dir: Path, display: Display) -> None:
        """Write `summary.json` and show its tables; `StorageError` where it cannot be written."""
        content: dict[str, Any] = {
            "num_steps": self.num_steps,
            "wall_time_s": dict(self.wall_time_s),
            "peak_memory_gib": self.peak_memory_gib,
            "largest_pack": self.largest_pack,
        }
        if self.planned_gib is not None:
            content |= {"planned_gib": self.planned_gib, "measured_gib": self.measured_gib}
        if self.after is not None:
            content["after"] = self.after.to_json()
        if self.after is not None and self.before is not None:
            rows = comparison(self.before, self.after, confidence=self.confidence)
            content |= {"confidence": self.confidence, "comparison": rows, "before": self.before.to_json()}
            display.table(results_table(rows, confidence=self.confidence))
        display.table(times_table(self.wall_time_s))
        write_summary(run_dir / "summary.json", content)
        display.say(f"peak memory {self.peak_memory_gib:.1f} GiB")
        if self.planned_gib is not None:
            display.say(planned_words(self.planned_gib, self.measured_gib, self.largest_pack))
        display.say(f"run directory: {run_dir}")
