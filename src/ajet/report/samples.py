"""A few held-out episodes to read: tasks whose outcome changed, as they were played after training."""

from __future__ import annotations

import pandas as pd

from ajet.analysis.runs import Run
from ajet.report.page import SampleCall, SampleEpisode
from ajet.tracking.text import last_message_text

NUM_RISEN, NUM_FALLEN = 2, 2
LONGEST = 1500
"""Characters of a request that are shown; the last ones, for a program's requests tend to repeat the history."""


def sample_episodes(run: Run, *, label: str = "") -> list[SampleEpisode]:
    """Episodes of the last evaluation whose tasks went better or worse than in the first; none without two of them."""
    held_out = run.episodes[run.episodes["split"] == "eval"]
    steps = sorted(held_out["step"].unique())
    if len(steps) < 2:
        return []
    by_task = held_out.groupby(["task", "step"])["score"].mean().unstack("step")
    change = (by_task[steps[-1]] - by_task[steps[0]]).dropna()
    moved = [*change[change > 0].nlargest(NUM_RISEN).items(), *change[change < 0].nsmallest(NUM_FALLEN).items()]
    called = f"{label}: " if label else ""
    return [_episode(run, called, step=int(steps[-1]), task=str(task), change=gain) for task, gain in moved]


def _episode(run: Run, called: str, *, step: int, task: str, change: float) -> SampleEpisode:
    calls = run.texts(split="eval", step=step, task=task, repeat=0)
    spoken = calls[calls["trained"].astype(bool)]
    went = "better" if change > 0 else "worse"
    return SampleEpisode(
        anchor=f"{run.name}-{task}-{step}",
        title=f"{called}{task}: went {went} than before training ({change:+.2f}); {len(spoken)} trained calls",
        calls=[_call(call) for _, call in spoken.iterrows()],
    )


def _call(call: pd.Series) -> SampleCall:
    return SampleCall(
        agent=call["agent"],
        tag=call["tag"],
        asked=last_message_text(call["messages"], most=LONGEST),
        reply=call["reply"],
    )
