"""A run or an evaluation as Python shows it: a few lines in a terminal, a table in a notebook. In: what was read. Out:
text or HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from ajet.evaluate.statistics import interval_text, number_text, p_value_text

if TYPE_CHECKING:
    from ajet.analysis.runs import Run

HELD_OUT = ("", "before", "after", "difference", "interval", "p", "tasks")


def run_lines(run: Run) -> list[str]:
    """What the run is, how far it came, and what it brought: a line each."""
    return [
        f"{run.config.get('workflow.entry')}, {_trained(run)}, seed {run.config.get('seed')}: {_progress(run)}",
        *(
            f"{name} {before} → {after} ({difference} {interval}, p {p})"
            for name, before, after, difference, interval, p, _ in _held_out(run)
        ),
        str(run.path),
    ]


def run_html(run: Run) -> str:
    """The same as a table."""
    first, *_, where = run_lines(run)
    rows = _held_out(run)
    table = html_table(HELD_OUT, rows) if rows else ""
    return f"<p><b>{escape(first)}</b></p>{table}<p><code>{escape(where)}</code></p>"


def html_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A plain table, as notebooks draw it."""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(entry))}</td>' for entry in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _trained(run: Run) -> str:
    if "num_episodes" in run.config:
        return "played"
    targets = run.config.get("trainable_targets")
    return f"trains {', '.join(targets) if targets else 'every agent'}"


def _progress(run: Run) -> str:
    if "num_episodes" in run.config:
        return f"{len(run.episodes)} episodes"
    steps = f"{run.num_steps} of {run.config.get('total_steps')} steps"
    return f"finished, {steps}" if run.state == "finished" else f"unfinished, {steps}"


def _held_out(run: Run) -> list[tuple[str, ...]]:
    """A row a measure that was taken before and after training: the score, and the reward of each tag."""
    return [
        (
            f"held-out {row.measure}",
            number_text(row.before),
            number_text(row.after),
            number_text(row.difference, signed=True),
            interval_text(row.low, row.high, signed=True),
            p_value_text(row.p_value),
            str(row.num_tasks),
        )
        for row in run.comparison.itertuples()
        if row.measure == "score" or row.measure.startswith("reward/")
    ]
