"""What a run proved: `summary.json` and the closing table, from two evaluations of the same held-out tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

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
    """Write `summary.json` whole or not at all."""
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


def results_table(rows: Mapping[str, Comparison], *, confidence: float) -> Table:
    """The closing table: one row a measure but seats, which are many."""
    return _comparison_table(
        f"the same held-out tasks before and after; {confidence:.0%} interval of the difference",
        {name: row for name, row in rows.items() if not name.startswith(SEAT)},
    )


def seats_table(rows: Mapping[str, Comparison], *, confidence: float) -> Table:
    """One row a role and the agent that had it."""
    return _comparison_table(
        f"reward by role and seat; {confidence:.0%} interval of the difference",
        {name.removeprefix(SEAT): row for name, row in rows.items() if name.startswith(SEAT)},
    )


def _comparison_table(title: str, rows: Mapping[str, Comparison]) -> Table:
    """The paired difference of each row, its interval and p-value, the pairs that it has and those that it needs."""
    # Without lines it fits a terminal of 80 columns.
    table = Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False
    )
    for heading in ("held-out", "before", "after", "difference", "p", "pairs", "needed"):
        table.add_column(heading, no_wrap=True)
    for name, row in rows.items():
        difference = row.difference
        table.add_row(
            name,
            f"{row.before.mean:.3f}",
            f"{row.after.mean:.3f}",
            f"{difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]",
            written_p(row.p_value),
            str(difference.num),
            "" if row.pairs_needed is None else str(row.pairs_needed),
        )
    return table


def written_p(p_value: float) -> str:
    """To three digits; `<0.001` below."""
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


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
