"""A run or sweep directory -> one self-contained HTML file, the answer first."""

from __future__ import annotations

import os
from pathlib import Path

from ajet.analysis import Run, Sweep, is_run, load_run, load_sweep
from ajet.report.answer import contrasts_section, run_answer, sweep_answer
from ajet.report.page import Page, Section, render
from ajet.report.sections import (
    budget_section,
    credit_section,
    curves_section,
    episodes_section,
    failures_section,
    jobs_section,
    origin_section,
    policy_section,
)
from ajet.tracking.files.writing import write_text

__all__ = ["report_page", "write_report"]


def write_report(folder: Path, out: Path) -> None:
    """Write the report of a run or of a sweep.

    Raises:
        RunDirectoryError: the folder is neither, or damaged.
        StorageError: `out` cannot be written.
    """
    write_text(out, render(report_page(folder, beside=out.parent)))


def report_page(folder: Path, *, beside: Path | None = None) -> Page:
    """The report's contents.

    Args:
        folder: of the run or the sweep.
        beside: where the page will lie, for links to the reports of a sweep's jobs; default: in the folder.

    Raises:
        RunDirectoryError: the folder is neither a run nor a sweep.
    """
    if is_run(folder):
        return _run_page(load_run(folder))
    sweep = load_sweep(folder)
    jobs = jobs_section(sweep, way=os.path.relpath(folder, beside or folder))
    return _sweep_page(sweep, jobs) if sweep.runs else _waiting_page(sweep, jobs)


def _run_page(run: Run) -> Page:
    lead, held_out = run_answer(run)
    return Page(
        title=f"Run {run.path.resolve().name}: {run.config.get('workflow.entry', '')}",
        lead=lead,
        sections=[
            held_out,
            curves_section({run.name: [run]}),
            credit_section(run),
            policy_section([run]),
            failures_section([run]),
            budget_section([run]),
            episodes_section({"": run}),
            origin_section([run]),
        ],
    )


def _waiting_page(sweep: Sweep, jobs: Section) -> Page:
    lead = ["No answer yet: no job has started yet."]
    return Page(title=f"Sweep {sweep.path.resolve().name}", lead=lead, sections=[jobs])


def _sweep_page(sweep: Sweep, jobs: Section) -> Page:
    lead, held_out = sweep_answer(sweep)
    return Page(
        title=f"Sweep {sweep.path.resolve().name}: {len(sweep.runs)} runs",
        lead=lead,
        sections=[
            held_out,
            contrasts_section(sweep),
            jobs,
            curves_section(sweep.conditions()),
            policy_section(sweep.runs),
            failures_section(sweep.runs),
            budget_section(sweep.runs),
            episodes_section({label: runs[0] for label, runs in sweep.conditions().items()}),
            origin_section(sweep.runs),
        ],
    )
