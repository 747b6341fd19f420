"""What an evaluation shows: comparisons and cells in, tables for a terminal out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from ajet.evaluate.statistics import estimate_text, number_text, p_value_text
from ajet.evaluate.summary import SEAT, Comparison

if TYPE_CHECKING:
    from ajet.evaluate.matrix import Cell


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
            number_text(row.before.mean),
            number_text(row.after.mean),
            estimate_text(difference, signed=True),
            p_value_text(row.p_value),
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


def matrix_table(cells: Sequence[Cell], *, confidence: float) -> Table:
    """A row a policy, a column an opponent: the score, the difference to the reference, and what that rests on."""
    title = f"held-out score [{confidence:.0%} interval], difference, p (Holm), pairs, pairs needed"
    table, places = _by_opponent(title, cells)
    for name in dict.fromkeys(cell.name for cell in cells):
        table.add_row(escape(name), *(_score(column.get(name)) for column in places))
    return table


def details_table(cells: Sequence[Cell], *, confidence: float) -> Table:
    """What lies behind the scores: below each policy a row a measure, by tag, by attempts and by seat."""
    title = f"other measures: mean, difference [its {confidence:.0%} interval], pairs"
    table, places = _by_opponent(title, cells)
    for name in dict.fromkeys(cell.name for cell in cells):
        table.add_section()
        table.add_row(escape(name))
        names = dict.fromkeys(measure for cell in cells if cell.name == name for measure in cell.means)
        for measure in (known for known in names if known != "score"):
            table.add_row(escape(f"  {measure}"), *(_detail(column.get(name), measure) for column in places))
    return table


def _by_opponent(title: str, cells: Sequence[Cell]) -> tuple[Table, list[dict[str, Cell]]]:
    """An empty table with a column an opponent, and the cells of each column by policy."""
    columns: dict[str, dict[str, Cell]] = {}
    for cell in cells:
        columns.setdefault(cell.opponent, {})[cell.name] = cell
    table = Table("", *columns, title=title, title_justify="left")
    return table, list(columns.values())


def _score(cell: Cell | None) -> str:
    if cell is None:
        return ""
    lines = [estimate_text(cell.means["score"])]
    if cell.p_holm is not None:
        row = cell.comparisons["score"]
        found = row.difference
        lines.append(estimate_text(found, signed=True))
        needed = "" if row.pairs_needed is None else f", needs {row.pairs_needed}"
        lines += [f"p {p_value_text(cell.p_holm)}", f"{found.num} pairs{needed}"]
    return "\n".join(lines)


def _detail(cell: Cell | None, measure: str) -> str:
    if cell is None or measure not in cell.means:
        return ""
    written = number_text(cell.means[measure].mean)
    if measure in cell.comparisons:
        found = cell.comparisons[measure].difference
        written += f" {estimate_text(found, signed=True)}, {found.num}"
    return written
