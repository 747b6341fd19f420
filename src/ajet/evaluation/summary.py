"""What a run proved: `summary.json` and the closing table, from two evaluations of the same held-out tasks."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from ajet.evaluation.scores import Evaluation
from ajet.statistics import (
    POWER,
    Interval,
    paired_difference,
    paired_p_value,
    paired_values,
    pairs_needed,
    score_interval,
)


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
    """Before, after and paired difference, of the score and of each trained tag's reward.

    Returns:
        By measure: `score`, `reward/<tag>`, and `pass@<k>`, `best@<k>` where tasks were played several times.
    """
    pairs = {"score": (before.scores, after.scores)}
    for tag in before.rewards:
        pairs[f"reward/{tag}"] = (before.rewards[tag], after.rewards.get(tag, {}))
    for name in (name for name in before.attempts if name in after.attempts):
        pairs[name] = (before.attempts[name], after.attempts[name])
    return {name: compare(old, new, confidence=confidence) for name, (old, new) in pairs.items()}


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
    """Write `summary.json` whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(_plain(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    partial.rename(path)


def _plain(value: Any) -> Any:
    """As JSON has it: what is not finite, such as the ends of an interval of one value, becomes null."""
    if isinstance(value, Comparison):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def results_table(rows: Mapping[str, Comparison], *, confidence: float) -> Table:
    """The closing table: one row a measure, with the paired difference, its interval, and the pairs that it needs."""
    table = Table(
        title=f"the same held-out tasks before and after; {confidence:.0%} interval of the difference",
        title_justify="left",
    )
    for heading in ("held-out", "before", "after", "difference", "pairs", "needed"):
        table.add_column(heading, no_wrap=True)
    for name, row in rows.items():
        difference = row.difference
        table.add_row(
            name,
            f"{row.before.mean:.3f}",
            f"{row.after.mean:.3f}",
            f"{difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]",
            str(difference.num),
            "" if row.pairs_needed is None else str(row.pairs_needed),
        )
    return table


def times_table(seconds: Mapping[str, float]) -> Table:
    """Wall time by phase."""
    table = Table(title="wall time", title_justify="left")
    table.add_column("phase")
    table.add_column("seconds", justify="right")
    table.add_column("share", justify="right")
    total = sum(seconds.values())
    for phase, value in sorted(seconds.items(), key=lambda item: -item[1]):
        table.add_row(phase, f"{value:.1f}", f"{value / total:.0%}" if total else "")
    table.add_row("all", f"{total:.1f}", "")
    return table
