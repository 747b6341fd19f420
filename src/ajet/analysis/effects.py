"""What training gained on the held-out tasks, by run and by condition of a sweep, with intervals.

In: runs. Out: `Effect`s, the rows of a forest plot and of a report's answer. Scores come from `summary.json`, or, while
a run still goes, from the first and the newest evaluation in its trajectories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean

import pandas as pd

from ajet.analysis.runs import Run, Sweep
from ajet.statistics import (
    POWER,
    Interval,
    crossed_mean,
    holm,
    paired_difference,
    paired_p_value,
    pairs_needed,
    score_interval,
)

CONFIDENCE = 0.95
"""Where a run's configuration does not say otherwise."""
Scores = Mapping[str, float]
"""By task_id, several episodes of a task averaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """The held-out score before and after training, on the same tasks."""

    label: str
    before: Interval
    after: Interval
    difference: Interval
    """Paired by task. Over several runs, of other training seeds as well as of other tasks."""
    p_value: float
    """Two-sided, of no difference; corrected by Holm where the effect is one of several."""
    pairs_needed: int | None
    """Held-out tasks that would find the difference seen with probability `POWER`; None where there is none."""
    num_runs: int
    """Runs (training seeds) that it rests on."""

    @property
    def helps(self) -> bool | None:
        """True or False where the interval leaves out 0, None where it does not."""
        if self.difference.low > 0:
            return True
        return False if self.difference.high < 0 else None


def held_out_scores(run: Run, *, tag: str | None = None) -> tuple[Scores, Scores] | None:
    """Scores by task of the run's first and last evaluation; None if it has not two.

    Args:
        run: finished or not.
        tag: this tag's mean reward instead of the score.
    """
    if "before" in run.summary and "after" in run.summary:
        first, last = run.summary["before"], run.summary["after"]
        return (first["scores"], last["scores"]) if tag is None else (first["rewards"][tag], last["rewards"][tag])
    measure = "score" if tag is None else f"reward/{tag}"
    played = run.episodes[(run.episodes["split"] == "eval") & run.episodes["score"].notna()]
    steps = played["step"].unique()
    if len(steps) < 2:
        return None
    by_task = played.groupby(["step", "task"])[measure].mean()
    first, last = (by_task.loc[step].to_dict() for step in (min(steps), max(steps)))
    return first, last


def run_effect(run: Run, *, tag: str | None = None, label: str | None = None) -> Effect | None:
    """The effect of one run on its score or on a tag's reward; None if it has not been evaluated twice."""
    scores = held_out_scores(run, tag=tag)
    return None if scores is None else _effect(label or run.name, [scores], confidence=confidence_of(run))


def sweep_effects(sweep: Sweep) -> list[Effect]:
    """The effect of every condition that has been evaluated, in the sweep's order, p-values corrected by Holm."""
    effects = []
    for label, runs in sweep.conditions().items():
        scores = [found for run in runs if (found := held_out_scores(run)) is not None]
        if scores:
            effects.append(_effect(label, scores, confidence=confidence_of(runs[0])))
    return _corrected(effects)


def sweep_contrasts(sweep: Sweep) -> list[Effect]:
    """What one condition gained over another, for every two that share training seeds; p-values corrected by Holm.

    Of the pair named `a over b`, `before` holds b's held-out scores after training and `after` those of a. Runs of the
    same seed are paired, for they trained on the same tasks.
    """
    after = {
        label: {run.config.get("seed"): found[1] for run in runs if (found := held_out_scores(run)) is not None}
        for label, runs in sweep.conditions().items()
    }
    confidence = confidence_of(sweep.runs[0])
    effects = []
    for (other, of_other), (one, of_one) in combinations(after.items(), 2):
        scores = [(of_other[seed], of_one[seed]) for seed in of_one if seed in of_other]
        if scores:
            effects.append(_effect(f"{one} over {other}", scores, confidence=confidence))
    return _corrected(effects)


def effects_frame(effects: Sequence[Effect]) -> pd.DataFrame:
    """One row an effect (index: its label): before, after, difference, low, high (its interval), p_value, tasks,
    tasks_needed (missing where there is no difference), runs."""
    rows = [
        {
            "before": effect.before.mean,
            "after": effect.after.mean,
            "difference": effect.difference.mean,
            "low": effect.difference.low,
            "high": effect.difference.high,
            "p_value": effect.p_value,
            "tasks": effect.difference.num,
            "tasks_needed": effect.pairs_needed,
            "runs": effect.num_runs,
        }
        for effect in effects
    ]
    frame = pd.DataFrame(rows, index=[effect.label for effect in effects])
    return frame.astype({"tasks_needed": "Int64"}) if rows else frame


def _effect(label: str, scores: Sequence[tuple[Scores, Scores]], *, confidence: float) -> Effect:
    differences = [{task: after[task] - before[task] for task in before if task in after} for before, after in scores]
    before, after = _mean_by_task([before for before, _ in scores]), _mean_by_task([after for _, after in scores])
    if len(scores) == 1:
        difference, p_value = paired_difference(before, after, confidence=confidence), paired_p_value(before, after)
    else:
        crossed = crossed_mean(differences, confidence=confidence)
        difference, p_value = crossed.interval, crossed.p_value
    return Effect(
        label=label,
        before=score_interval(list(before.values()), confidence=confidence),
        after=score_interval(list(after.values()), confidence=confidence),
        difference=difference,
        p_value=p_value,
        pairs_needed=pairs_needed(list(_mean_by_task(differences).values()), confidence=confidence, power=POWER),
        num_runs=len(scores),
    )


def _mean_by_task(scores: Sequence[Scores]) -> dict[str, float]:
    """The mean over runs of every task that all of them have."""
    shared = [task for task in scores[0] if all(task in values for values in scores)]
    return {task: fmean(values[task] for values in scores) for task in shared}


def _corrected(effects: Sequence[Effect]) -> list[Effect]:
    corrected = holm([effect.p_value for effect in effects])
    return [replace(effect, p_value=p_value) for effect, p_value in zip(effects, corrected, strict=True)]


def confidence_of(run: Run) -> float:
    """The coverage of intervals that the run was configured with."""
    return float(run.config.get("eval.confidence", CONFIDENCE))
