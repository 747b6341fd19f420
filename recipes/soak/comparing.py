"""Two run directories that should hold the same -> the first thing in which they differ, in words.

Compared are the lines of `metrics.jsonl`, the outcome of every episode and the last checkpoint's weights. Left out:
what is measured by a clock or of memory, and the bytes of files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.measured import MEASURED

from ajet.analysis import load_run
from ajet.tracking.files.checkpoints import saved_steps, step_folder
from ajet.tracking.files.reading import read_metric_lines

Line = Mapping[str, float | None]
OUTCOME = ["split", "step", "task", "repeat", "status", "score"]
"""Of an episode: where it belongs and what came of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far two numbers may be apart: `relative` of the larger or `absolute`, whichever is more."""

    relative: float = 0.0
    absolute: float = 0.0

    def holds(self, value: float | None, other: float | None) -> bool:
        """Whether the two count as equal; None stands for a number that is not finite."""
        if value is None or other is None:
            return value is other
        return math.isclose(value, other, rel_tol=self.relative, abs_tol=self.absolute)


EXACT = Tolerance()
ROUNDING = Tolerance(relative=1e-4, absolute=1e-5)
"""For several processes, which add the same numbers up in another order."""


def first_difference(run: Path, expected: Path, tolerance: Tolerance) -> str | None:
    """In words, with both values: of the first step that differs the first metric, then an episode, then a weight.

    Args:
        run: a finished run.
        expected: likewise, the one it should equal.
        tolerance: of metrics; of weights its absolute part.
    """
    lines, expected_lines = (list(read_metric_lines(folder / "metrics.jsonl")) for folder in (run, expected))
    steps, expected_steps = ([line["step"] for line in each] for each in (lines, expected_lines))
    if steps != expected_steps:
        return f"metrics.jsonl has the steps {steps}, not {expected_steps}"
    for line, expected_line in zip(lines, expected_lines, strict=True):
        found = _different_metric(line, expected_line, tolerance)
        if found is not None:
            return f"step {line['step']}: {found}"
    return _different_outcome(run, expected) or _different_weight(run, expected, tolerance)


def _different_metric(line: Line, expected: Line, tolerance: Tolerance) -> str | None:
    for name in dict.fromkeys([*line, *expected]):
        if name.startswith(MEASURED):
            continue
        if name not in line or name not in expected:
            return f"{name} is {'missing' if name in expected else 'one metric too many'}"
        if not tolerance.holds(line[name], expected[name]):
            return f"{name} is {line[name]}, not {expected[name]}"
    return None


def _different_outcome(run: Path, expected: Path) -> str | None:
    episodes, expected_episodes = (load_run(folder).episodes[OUTCOME].to_dict("records") for folder in (run, expected))
    if len(episodes) != len(expected_episodes):
        return f"trajectories hold {len(episodes)} episodes, not {len(expected_episodes)}"
    for episode, other in zip(episodes, expected_episodes, strict=True):
        # By their text: a score that is missing is NaN, which equals nothing.
        if str(episode) != str(other):
            return f"an episode is {episode}, not {other}"
    return None


def _different_weight(run: Path, expected: Path, tolerance: Tolerance) -> str | None:
    # Loads torch, which a difference in metrics does without.
    from safetensors.torch import load_file

    step = saved_steps(expected)[-1]
    if saved_steps(run)[-1] != step:
        return f"the last checkpoint is of step {saved_steps(run)[-1]}, not {step}"
    weights, others = (load_file(step_folder(each, step) / "model" / "model.safetensors") for each in (run, expected))
    if weights.keys() != others.keys():
        return f"the last checkpoint has other weights: {sorted(weights.keys() ^ others.keys())}"
    for name, weight in weights.items():
        distance = float((weight - others[name]).abs().max())
        if not distance <= tolerance.absolute:
            return f"after step {step} the weight {name} is off by {distance:.2g}"
    return None
