"""What training gained on the held-out tasks, by run and by condition of a sweep, with intervals.

In: runs. Out: `Effect`s, the rows of a forest plot and of a report's answer. Scores come from `summary.json`, or, while
a run still goes, from the first and the newest evaluation in its trajectories.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import pandas as pd

from ajet.analysis.runs import Run, Sweep
from ajet.evaluate.statistics import (
    POWER,
    Interval,
    crossed_level,
    crossed_mean,
    difference_interval,
    holm,
    paired_difference,
    paired_p_value,
    paired_values,
    pairs_needed,
    score_interval,
    score_scale,
    tasks_needed,
)

CONFIDENCE = 0.95
"""Where a run's configuration does not say otherwise."""
Scores = Mapping[str, float]
"""By task_id, several episodes of a task averaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What two measures of the same held-out tasks differ by: the scores before and after training, or two gains."""

    label: str
    before: Interval
    """The score before training; of a contrast `a over b`, what b gained."""
    after: Interval
    """The score after training; of a contrast `a over b`, what a gained."""
    difference: Interval
    """Paired by task; of several runs, over other training seeds as well as other tasks. Of this row by itself."""
    p_value: float
    """Two-sided, of no difference; corrected by Holm where the effect is one of several."""
    confidence: float
    """Of the intervals; `p_value` is compared with 1 less this."""
    pairs_needed: int | None
    """Held-out tasks that would find the difference seen with probability `POWER`, with as many runs; None where there
    is no difference, or where training seeds lie so far apart that more tasks alone would not do."""
    num_runs: int
    """Runs (training seeds) that it rests on."""

    @property
    def helps(self) -> bool | None:
        """Which way it goes, where both the interval and the p-value tell; None where they do not."""
        if self.p_value >= 1 - self.confidence or self.difference.low <= 0 <= self.difference.high:
            return None
        return self.difference.mean > 0


def held_out_scores(run: Run, *, tag: str | None = None) -> tuple[Scores, Scores] | None:
    """Scores by task of the run's first and last evaluation; None if it has not two that know them.

    Args:
        run: finished or not.
        tag: this tag's mean reward instead of the score.
    """
    if "before" in run.summary and "after" in run.summary:
        first, last = run.summary["before"], run.summary["after"]
        if tag is None:
            return first["scores"], last["scores"]
        both = tag in first["rewards"] and tag in last["rewards"]
        return (first["rewards"][tag], last["rewards"][tag]) if both else None
    measure = "score" if tag is None else f"reward/{tag}"
    played = run.episodes[(run.episodes["split"] == "eval") & run.episodes["score"].notna()]
    steps = played["step"].unique()
    if len(steps) < 2 or measure not in played:
        return None
    by_task = played.groupby(["step", "task"])[measure].mean().dropna()
    if not {min(steps), max(steps)} <= set(by_task.index.get_level_values("step")):
        return None
    first, last = (by_task.loc[step].to_dict() for step in (min(steps), max(steps)))
    return first, last


def run_effect(run: Run, *, tag: str | None = None, label: str | None = None) -> Effect | None:
    """The effect of one run on its score or on a tag's reward; None if no task has been scored twice."""
    scores = held_out_scores(run, tag=tag)
    return None if scores is None else _effect(label or run.name, [scores], confidence=confidence_of(run))


def sweep_effects(sweep: Sweep) -> list[Effect]:
    """The effect of every condition that has been evaluated, in the sweep's order, p-values corrected by Holm."""
    effects = []
    for label, runs in sweep.conditions().items():
        scores = [found for run in runs if (found := held_out_scores(run)) is not None]
        effects.append(_effect(label, scores, confidence=confidence_of(runs[0])))
    return _corrected(effects)


def sweep_contrasts(sweep: Sweep) -> list[Effect]:
    """What one condition gained over another, for every two that share training seeds; p-values corrected by Holm.

    Of the pair named `a over b`, `before` holds what b gained on the held-out tasks and `after` what a gained: gains
    and not scores after training, for conditions may start from different tables, e.g. where roles that are not
    trained are scripted. Runs of the same seed are paired, for they trained on the same tasks.
    """
    gains = {
        label: {run.config.get("seed"): gain for run in runs if (gain := _gain(run)) is not None}
        for label, runs in sweep.conditions().items()
    }
    effects = []
    for (other, of_other), (one, of_one) in combinations(gains.items(), 2):
        pairs = [(of_other[seed], of_one[seed]) for seed in of_one if seed in of_other]
        confidence = confidence_of(sweep.runs[0])
        effects.append(
            _effect(
                f"{one} over {other}",
                pairs,
                confidence=confidence,
                single_run=difference_interval,
                several_runs=_crossed_gain,
            )
        )
    return _corrected(effects)


def _crossed_gain(by_seed: Sequence[Scores], *, confidence: float) -> Interval:
    return crossed_mean(by_seed, confidence=confidence).interval


def _gain(run: Run) -> Scores | None:
    """After less before, by task."""
    scores = held_out_scores(run)
    if scores is None:
        return None
    before, after = scores
    return {task: after[task] - before[task] for task in before if task in after}


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


def _effect(
    label: str,
    pairs: Sequence[tuple[Scores, Scores]],
    *,
    confidence: float,
    single_run: Callable[..., Interval] = score_interval,
    several_runs: Callable[..., Interval] = crossed_level,
) -> Effect | None:
    """The second of each run's pair less the first; None where there is no task that all of them have.

    Args:
        label: its name.
        pairs: what is compared, a pair a run.
        confidence: of the intervals.
        single_run: the interval of one run's values, where there is only one.
        several_runs: of several runs' values, a mapping a run.
    """
    shared = set.intersection(*(set(scores) for pair in pairs for scores in pair)) if pairs else set()
    tasks = [task for task in pairs[0][0] if task in shared] if shared else []
    if not tasks:
        return None
    before, after = ([{task: pair[place][task] for task in tasks} for pair in pairs] for place in (0, 1))
    if len(pairs) == 1:
        levels = [single_run(list(side[0].values()), confidence=confidence) for side in (before, after)]
        difference = paired_difference(before[0], after[0], confidence=confidence)
        p_value = paired_p_value(before[0], after[0])
        needed = pairs_needed(paired_values(before[0], after[0]), confidence=confidence, power=POWER)
    else:
        levels = [several_runs(side, confidence=confidence) for side in (before, after)]
        changes = [{task: new[task] - old[task] for task in tasks} for old, new in zip(before, after, strict=True)]
        scale = max(score_scale(old, new) for old, new in zip(before, after, strict=True))
        crossed = crossed_mean(changes, confidence=confidence, scale=scale)
        difference, p_value = crossed.interval, crossed.p_value
        needed = tasks_needed(changes, confidence=confidence, power=POWER)
    return Effect(
        label=label,
        before=levels[0],
        after=levels[1],
        difference=difference,
        p_value=p_value,
        confidence=confidence,
        pairs_needed=needed,
        num_runs=len(pairs),
    )


def _corrected(effects: Sequence[Effect | None]) -> list[Effect]:
    found = [effect for effect in effects if effect is not None]
    corrected = holm([effect.p_value for effect in found])
    return [replace(effect, p_value=p_value) for effect, p_value in zip(found, corrected, strict=True)]


def confidence_of(run: Run) -> float:
    """The coverage of intervals that the run was configured with."""
    return float(run.config.get("eval.confidence", CONFIDENCE))
