"""What a run proved: every measure of two evaluations of the same held-out tasks, compared; and `summary.json`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ajet.evaluate.scores import Evaluation
from ajet.evaluate.statistics import (
    POWER,
    Interval,
    paired_difference,
    paired_p_value,
    paired_values,
    pairs_needed,
    score_interval,
)
from ajet.tracking.files.writing import write_json

SEAT = "seat/"
"""What measures of a seat begin with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One measure on the same held-out tasks, before and after."""

    before: Interval
    after: Interval
    difference: Interval
    """Paired by task."""
    p_value: float
    """Two-sided, of no difference."""
    pairs_needed: int | None
    """Tasks that would find the difference seen with probability `POWER`; None where there is none."""


def comparison(before: Evaluation, after: Evaluation, *, confidence: float) -> dict[str, Comparison]:
    """Before, after and paired difference of every measure that both have.

    Returns:
        By measure, as `measures` names them.
    """
    old, new = measures(before), measures(after)
    return {name: compare(old[name], new[name], confidence=confidence) for name in old if name in new}


def measures(evaluation: Evaluation) -> dict[str, Mapping[str, float]]:
    """All that is known by task_id.

    Returns:
        By measure: `score`, each trained tag's `reward/<tag>`, `pass@<k>` and `best@<k>` where tasks were played
        several times, and `seat/<tag>/<agent name>`, the reward over the tasks in which that agent had that role.
    """
    return {
        "score": evaluation.scores,
        **{f"reward/{tag}": by_task for tag, by_task in evaluation.rewards.items()},
        **evaluation.attempts,
        **{f"{SEAT}{seat}": by_task for seat, by_task in evaluation.seats.items()},
    }


def compare(before: Mapping[str, float], after: Mapping[str, float], *, confidence: float) -> Comparison:
    """One measure by task_id, before and after."""
    return Comparison(
        before=score_interval(list(before.values()), confidence=confidence),
        after=score_interval(list(after.values()), confidence=confidence),
        difference=paired_difference(before, after, confidence=confidence),
        p_value=paired_p_value(before, after),
        pairs_needed=pairs_needed(paired_values(before, after), confidence=confidence, power=POWER),
    )


def write_summary(path: Path, content: Mapping[str, Any]) -> None:
    """Write `summary.json` or `evaluation.json`, whole or not at all."""
    write_json(path, _plain(content))


def _plain(value: Any) -> Any:
    """As JSON has it: what is not finite, such as the ends of an interval of one value, becomes null."""
    if isinstance(value, Comparison):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
