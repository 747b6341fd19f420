"""The answer of a report: which roles help, in a sentence each, and the numbers behind it."""

from __future__ import annotations

from collections.abc import Sequence

from ajet.analysis.effects import Effect, confidence_of, run_effect, sweep_contrasts, sweep_effects
from ajet.analysis.plots import plot_forest, plot_scores
from ajet.analysis.runs import Run, Sweep
from ajet.evaluate.statistics import POWER, Interval, estimate_text, interval_text, number_text, p_value_text
from ajet.report.page import ReportTable, Section

MOST_CONTRASTS = 15
"""Pairs of conditions that are listed, those of six conditions; correcting for more would hide what there is."""


def run_answer(run: Run) -> tuple[list[str], Section]:
    """The answer of one run and its section: the held-out score and each trained tag's reward."""
    score = run_effect(run, label="score")
    if score is None:
        return [f"No answer yet: no held-out task has been scored twice. {_progress(run)}"], Section(
            title="Held-out play", notes=["There are no two evaluations to compare."]
        )
    rewards = [run_effect(run, tag=tag, label=f"reward {tag}") for tag in run.tags]
    effects = [score, *(effect for effect in rewards if effect is not None)]
    lead = [sentence(score, label="+".join(run.tags))]
    if run.state == "unfinished":
        lead.append(f"The run is not finished: {_progress(run)}")
    lead.append("One training run: another seed may give another answer.")
    return lead, Section(
        title="Held-out play",
        notes=[_how(confidence_of(run))],
        table=effects_table(effects),
        figure=plot_scores(effects),
        caption="The same held-out tasks before and after training, with intervals.",
    )


def sweep_answer(sweep: Sweep) -> tuple[list[str], Section]:
    """The answer of a sweep and its section: a sentence and a row a condition, the largest gain first."""
    effects = sorted(sweep_effects(sweep), key=lambda effect: -effect.difference.mean)
    if not effects:
        return ["No answer yet: no held-out task has been scored twice."], Section(
            title="Held-out play", notes=["There are no two evaluations to compare."]
        )
    lead = [sentence(effect, label=effect.label) for effect in effects]
    missing = [label for label in sweep.conditions() if label not in {effect.label for effect in effects}]
    if missing:
        lead.append(f"Nothing to compare yet: {', '.join(missing)}.")
    alone = [effect.label for effect in effects if effect.num_runs == 1]
    if alone:
        lead.append(f"From a single training run, so that another seed may give another answer: {', '.join(alone)}.")
    notes = [_how(confidence_of(sweep.runs[0])), _corrected(confidence_of(sweep.runs[0]))]
    return lead, Section(
        title="Held-out play",
        notes=notes,
        table=effects_table(effects),
        figure=plot_forest(effects),
        caption="What training gained on the same held-out tasks. Green: shown to be raised; orange: lowered.",
    )


def contrasts_section(sweep: Sweep) -> Section:
    """Whether one condition gained more than another, a row a pair."""
    contrasts = sweep_contrasts(sweep)
    title = "One condition against another"
    if not contrasts:
        return Section(title=title, notes=["No two conditions were evaluated and share a training seed."])
    if len(contrasts) > MOST_CONTRASTS:
        where = "choose a few beforehand, from ajet.analysis.effects.sweep_contrasts."
        return Section(title=title, notes=[f"{len(contrasts)} pairs are too many to correct for: {where}"])
    how = "What a gained by training less what b gained, on the same held-out tasks and between runs of the same seed."
    return Section(
        title=title,
        notes=[how, _corrected(confidence_of(sweep.runs[0]))],
        table=effects_table(contrasts, headings=("a over b", "gain of b", "gain of a"), signed=True),
    )


def sentence(effect: Effect, *, label: str) -> str:
    """One effect in words, e.g. `seer: training raised the held-out score by +0.26, from 0.30 to 0.56 (…).`"""
    difference = effect.difference
    ends = interval_text(difference.low, difference.high, signed=True)
    runs = "1 run" if effect.num_runs == 1 else f"{effect.num_runs} runs"
    proof = f"interval {ends}; {difference.num} tasks, {runs}; p {p_value_text(effect.p_value)}"
    before, after = number_text(effect.before.mean), number_text(effect.after.mean)
    moved = f"{number_text(difference.mean, signed=True)}, from {before} to {after} ({proof})."
    if effect.helps is not None:
        return f"{label}: training {'raised' if effect.helps else 'lowered'} the held-out score by {moved}"
    text = f"{label}: no difference is shown: {moved}"
    if difference.low > 0 or difference.high < 0:
        return f"{text} By itself the interval leaves out 0; among so many rows that may be chance."
    if effect.pairs_needed is not None:
        return f"{text} To find one of this size would take about {effect.pairs_needed:,} held-out tasks."
    if _needs_seeds(effect):
        return f"{text} To find one of this size would take more training seeds, not only more held-out tasks."
    return text


def effects_table(
    effects: Sequence[Effect], *, headings: Sequence[str] = ("", "before", "after"), signed: bool = False
) -> ReportTable:
    """A row an effect; `headings` name the label and the two that are compared, written with a sign if `signed`."""
    label, before, after = headings
    return ReportTable(
        headings=(label, "difference", "p", before, after, "tasks", "tasks needed", "runs"),
        rows=[
            (
                effect.label,
                estimate(effect.difference, signed=True),
                p_value_text(effect.p_value),
                estimate(effect.before, signed=signed),
                estimate(effect.after, signed=signed),
                str(effect.difference.num),
                _needed(effect),
                str(effect.num_runs),
            )
            for effect in effects
        ],
    )


def _needed(effect: Effect) -> str:
    if effect.pairs_needed is not None:
        return f"{effect.pairs_needed:,}"
    return "more seeds" if _needs_seeds(effect) else ""


def _needs_seeds(effect: Effect) -> bool:
    """Whether the seeds that there are would not find the difference with any number of tasks."""
    return effect.pairs_needed is None and effect.num_runs > 1 and effect.difference.mean != 0


def estimate(found: Interval, *, signed: bool = False) -> str:
    """As `estimate_text`, but that a page breaks it over lines only between the number and its interval."""
    return estimate_text(found, signed=signed).replace(", ", ",\N{NO-BREAK SPACE}")


def _how(confidence: float) -> str:
    return (
        f"In brackets: {confidence:.0%} intervals, clustered by task, and in every column over training seeds where "
        "there are several; where most tasks differ alike, one that gained and one that lost are counted besides. "
        f"“Tasks needed” would find a difference of the size seen in {POWER:.0%} of experiments."
    )


def _corrected(confidence: float) -> str:
    return (
        "Intervals are of each row by itself; p-values are corrected for the number of rows (Holm), so that chance "
        f"alone has a row called raised or lowered in at most {1 - confidence:.0%} of such tables."
    )


def _progress(run: Run) -> str:
    return f"{run.num_steps} of {run.config.get('total_steps', '?')} steps are logged."
