"""A report below its answer: jobs, curves, credit, failures, time and tokens, episodes, what was run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
import yaml

from ajet.analysis.effects import confidence_of, run_effect
from ajet.analysis.plots import plot_budget, plot_credit, plot_rewards
from ajet.analysis.policy_plot import plot_policy
from ajet.analysis.runs import Run, Sweep
from ajet.config.sweeps.records import JobRecord, is_sweep, read_jobs
from ajet.evaluate.statistics import number_text, ratio_interval
from ajet.plan.parts import planned_words
from ajet.records import EPISODE_STATUSES
from ajet.report.answer import estimate
from ajet.report.page import Link, ReportTable, Section
from ajet.report.samples import sample_episodes
from ajet.tracking.files.reading import read_metric_lines, read_yaml_list
from ajet.tracking.sane_ranges import RangeWatch

NBSP = "\N{NO-BREAK SPACE}"
FURTHER_COUNTS = ("retries", "context_overflows", "undelivered_calls")
"""Of an episode's mishaps besides how it ended."""
NUM_ERRORS = 8
"""Different errors that are listed, the most frequent first."""


def jobs_section(sweep: Sweep, *, way: str = ".") -> Section:
    """The table of jobs: state and key numbers, those that have not started or failed at once included.

    Args:
        sweep: whose jobs.
        way: from the page to the sweep's folder, for links to the reports of its jobs.
    """
    jobs = {str(job.number): job for job in read_jobs(sweep.path)} if is_sweep(sweep.path) else {}
    columns = list(dict.fromkeys([*sweep.choices.columns, *(key for job in jobs.values() for key in job.choices)]))
    runs = {run.name: run for run in sweep}
    names = [*jobs, *(name for name in runs if name not in jobs)]
    states = {name: jobs[name].state if name in jobs else runs[name].state for name in names}
    rows: list[Sequence[str | Link]] = [
        (
            _job_link(sweep, name, way),
            states[name],
            *(_choice(sweep, name, jobs.get(name), column) for column in columns),
            *(_progress(runs[name]) if name in runs else [""] * 5),
        )
        for name in names
    ]
    headings = ("job", "state", *columns, "steps", "last reward", "held-out gain", "time", "last step logged")
    counts = pd.Series(list(states.values())).value_counts()
    failed = [f"Job {job.number} ({job.name}) failed: {job.error}" for job in jobs.values() if job.state == "failed"]
    return Section(
        title="Jobs",
        notes=[
            ", ".join(f"{count} {state}" for state, count in counts.items()) + ".",
            *failed,
            *(
                f"Every episode of a job, token by token, e.g. of {name}: {_view(sweep.path / name)}"
                for name in list(runs)[:1]
            ),
        ],
        table=ReportTable(headings=headings, rows=rows),
    )


def _job_link(sweep: Sweep, name: str, way: str) -> str | Link:
    """The job's number, leading to its own report where it has one."""
    exists = (sweep.path / name / "report.html").is_file()
    return Link(text=name, href=quote(f"{way}/{name}/report.html")) if exists else name


def _choice(sweep: Sweep, name: str, job: JobRecord | None, column: str) -> str:
    """What the run was configured with; of a job without a run directory, what was asked for."""
    if name in sweep.choices.index and column in sweep.choices:
        return str(sweep.choices.loc[name, column])
    return "" if job is None else job.choices.get(column, "").strip("[]").replace(",", "+")


def _progress(run: Run) -> tuple[str, ...]:
    return (
        f"{run.num_steps}{NBSP}/{NBSP}{run.config.get('total_steps', '?')}",
        _last_rewards(run),
        _gain(run),
        _duration(sum(seconds_by_phase(run).values())),
        _last_written(run),
    )


def _last_rewards(run: Run) -> str:
    last = run.metrics.dropna(subset=["episode/ok"]).tail(1) if "episode/ok" in run.metrics else run.metrics.iloc[:0]
    return ", ".join(f"{tag} {last[f'reward/{tag}/mean'].item():.3f}" for tag in run.tags if len(last))


def _gain(run: Run) -> str:
    effect = run_effect(run)
    return "" if effect is None else estimate(effect.difference, signed=True)


def _last_written(run: Run) -> str:
    path = run.path / "metrics.jsonl"
    return f"{datetime.fromtimestamp(path.stat().st_mtime):%Y-%m-%d %H:%M}" if path.is_file() else ""


def curves_section(conditions: Mapping[str, Sequence[Run]]) -> Section:
    """Reward by step and tag."""
    sizes = [len(runs) for runs in conditions.values()]
    shown = ["its running mean over steps"]
    shown += ["a band from the lowest to the highest seed"] if max(sizes) > 1 else []
    shown += ["dots for the steps of a single run"] if min(sizes) == 1 else []
    return Section(
        title="Learning curves",
        figure=plot_rewards({label: [run.metrics for run in runs] for label, runs in conditions.items()}),
        caption=f"Mean training reward by role: {', '.join(shown)}.",
    )


def credit_section(run: Run) -> Section:
    """A figure of which roles and turns had large advantages, and how much of the update they made up."""
    return Section(
        title="Credit",
        figure=plot_credit(run.calls),
        caption="By role and turn: the mean advantage of the calls, their share of |advantage| x sampled tokens and, "
        "where replies were rewarded by themselves, the mean of these rewards.",
    )


def policy_section(runs: Sequence[Run]) -> Section:
    """What left its sane range, a row a range and tag; of a single run also the curves of what is measured by tag."""
    rows = [
        (run.name, str(remark.step), remark.metric, number_text(remark.value), remark.meaning)
        for run in runs
        for remark in RangeWatch().read(read_metric_lines(run.path / "metrics.jsonl"))
    ]
    told = "At the step when it was left for the first time; docs/troubleshooting.md has a section on each."
    return Section(
        title="Policy",
        notes=[told if rows else "No metric left its sane range (docs/troubleshooting.md)."],
        table=ReportTable(headings=("run", "step", "metric", "value", "what it usually means"), rows=rows)
        if rows
        else None,
        figure=plot_policy(runs[0].metrics) if len(runs) == 1 else None,
        caption="What is measured of the policy, by role and step.",
    )


def failures_section(runs: Sequence[Run]) -> Section:
    """Episodes by status of the runs where not all went well, and the errors that were seen most."""
    rows, num_ok = [], 0.0
    for run in runs:
        for split, prefix in (("train", "episode/"), ("eval", "eval/episode/")):
            counts = [_total(run, f"{prefix}{name}") for name in (*EPISODE_STATUSES, *FURTHER_COUNTS)]
            num_ok += counts[0]
            if any(counts[1:]):
                rows.append((run.name, split, *(f"{count:.0f}" for count in counts)))
    headings = ("run", "split", *EPISODE_STATUSES, *(name.replace("_", " ") for name in FURTHER_COUNTS))
    errors = pd.concat([run.episodes["error"].dropna() for run in runs])
    seen = [f"{count} x {error}" for error, count in errors.value_counts().head(NUM_ERRORS).items()]
    return Section(
        title="Failures",
        notes=[
            f"{num_ok:,.0f} episodes ended ok. Lost ones count neither for nor against a role.",
            "Runs where nothing failed are left out." if rows else "Nothing failed.",
            *seen,
        ],
        table=ReportTable(headings=headings, rows=rows) if rows else None,
    )


def _total(run: Run, metric: str) -> float:
    return float(run.metrics[metric].sum()) if metric in run.metrics else 0.0


def budget_section(runs: Sequence[Run]) -> Section:
    """Seconds by phase and tokens by kind, a row a run; for a single run also step by step."""
    phases = sorted({phase for run in runs for phase in seconds_by_phase(run)})
    kinds = ("sampled", "trained", "prompt", "unique")
    rows = []
    for run in runs:
        seconds = seconds_by_phase(run)
        tokens = [f"{_total(run, f'tokens/{kind}'):,.0f}" for kind in kinds]
        times = [f"{seconds.get(phase, 0.0):.0f}" for phase in phases]
        rows.append((run.name, _duration(sum(seconds.values())), *times, *tokens))
    headings = ("run", "in all", *(f"{phase}, s" for phase in phases), *(f"{kind} tokens" for kind in kinds))
    alone = len(runs) == 1
    return Section(
        title="Time and tokens",
        notes=[*_score_per_token(runs[0]), *_planned_memory(runs[0])] if alone else (),
        table=ReportTable(headings=headings, rows=rows),
        figure=plot_budget(runs[0].metrics, in_all=seconds_by_phase(runs[0])) if alone else None,
        caption="Seconds and tokens of every step.",
    )


def seconds_by_phase(run: Run) -> dict[str, float]:
    """Seconds by phase: of the whole run where it has a summary, else summed over the steps that are logged."""
    if "wall_time_s" in run.summary:
        return dict(run.summary["wall_time_s"])
    names = [name for name in run.metrics.columns if name.startswith("time/") and name != "time/step"]
    seconds = {name.removeprefix("time/"): float(run.metrics[name].sum()) for name in names}
    if overlap := seconds.pop("overlap", 0.0):  # play that ran beside other phases, whose time it is
        seconds["rollout"] -= overlap
    return seconds


def _planned_memory(run: Run) -> list[str]:
    """How far the run's plan was off, once it has ended; earlier versions made none."""
    planned, measured, pack = (run.summary.get(key) for key in ("planned_gib", "measured_gib", "largest_pack"))
    if not isinstance(planned, int | float) or not isinstance(measured, int | float) or not isinstance(pack, int):
        return []
    return [f"M{planned_words(planned, measured, pack)[1:]}."]


def _score_per_token(run: Run) -> list[str]:
    """What a thousand sampled tokens of held-out play bring, at the first and the last evaluation."""
    played = run.episodes[(run.episodes["split"] == "eval") & run.episodes["score"].notna()]
    notes = []
    for step in sorted({played["step"].min(), played["step"].max()}) if len(played) else []:
        tasks = played[played["step"] == step].groupby("task")[["score", "num_sampled"]].mean()
        if len(tasks) > 1 and tasks["num_sampled"].sum() > 0 and tasks["score"].nunique() > 1:
            ratio = ratio_interval(
                tasks["score"].tolist(),
                (tasks["num_sampled"] / 1000).tolist(),
                confidence=confidence_of(run),
                rng=np.random.default_rng(step),
            )
            notes.append(f"Held-out score per 1,000 sampled tokens at step {step}: {estimate(ratio)}.")
    return notes


def episodes_section(runs: Mapping[str, Run]) -> Section:
    """A few episodes to read of every run, by what it is to be called; one of several conditions each, as a rule."""
    episodes = [episode for label, run in runs.items() for episode in sample_episodes(run, label=label)]
    text = "Held-out episodes whose outcome changed, as the trained agents played them at the last evaluation."
    notes = [text if episodes else "None changed between two evaluations."]
    if len(runs) == 1:
        notes += [f"Every episode of the run, token by token: {_view(run.path)}" for run in runs.values()]
    return Section(title="Episodes to read", notes=notes, episodes=episodes)


def _view(run_dir: Path) -> str:
    return f"python -m ajet.view {shlex.quote(str(run_dir))}"


def origin_section(runs: Sequence[Run]) -> Section:
    """What was run: the settings that were asked for, commits, versions, machine."""
    rows: list[tuple[str, ...]] = []
    starts = {run.name: overrides_of(run) for run in runs}
    firsts = [asked[0] if asked else [] for asked in starts.values()]
    common = [setting for setting in firsts[0] if len(runs) > 1 and all(setting in asked for asked in firsts)]
    for run in runs:
        asked = [[setting for setting in start if setting not in common] for start in starts[run.name]]
        for start, entry in enumerate(run.provenance or [{}]):
            commit = str(entry.get("commit") or "unknown")[:12]
            changed = " with uncommitted changes" if entry.get("uncommitted_changes") else ""
            machine = entry.get("machine", {})
            made_on = (entry.get("python", "?"), machine.get("cores", "?"), machine.get("system", "?"))
            place = "Python {}, {} cores, {}".format(*made_on)
            rows.append((run.name, f"{commit}{changed}", " ".join(asked[start]) if start < len(asked) else "", place))
    first = runs[0]
    folded = [(f"Whole configuration of {first.name}", yaml.safe_dump(dict(first.config), sort_keys=False))]
    for run in runs[1:]:
        other = {
            key: value for key, value in run.config.items() if key not in first.config or value != first.config[key]
        }
        folded.append((f"Where {run.name} differs from it", yaml.safe_dump(other, sort_keys=False)))
    versions = runs[-1].provenance[-1].get("versions", {}) if runs[-1].provenance else {}
    folded.append(("Versions", "\n".join(f"{name} {version}" for name, version in versions.items())))
    headings = ("run", "commit", "settings", "machine")
    notes = [f"Common to all: {' '.join(common)}"] if common else []
    return Section(title="What was run", notes=notes, table=ReportTable(headings=headings, rows=rows), folded=folded)


def overrides_of(run: Run) -> list[list[str]]:
    """The overrides on the command line of every start, resumes included."""
    files = [run.path / ".hydra" / "overrides.yaml", *sorted(run.path.glob(".hydra/resumed_*/overrides.yaml"))]
    return [[str(override) for override in read_yaml_list(path)] for path in files if path.is_file()]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    written = f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
    return written.replace(" ", NBSP)
