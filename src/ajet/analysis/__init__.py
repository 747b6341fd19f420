"""Run directories -> frames, statistics and plots. Needs a run directory and no torch.

from ajet.analysis import load_run, load_sweep
run = load_run("outputs/2026-01-31/12-00-00")
run.metrics, run.episodes, run.calls      # pandas frames: a row a step, an episode, a call
"""

from ajet.analysis.evaluations import EvaluationResult, read_evaluation
from ajet.analysis.runs import Run, Sweep, load_run, load_sweep
from ajet.tracking.files.finding import is_run, runs_below

__all__ = [
    "EvaluationResult",
    "Run",
    "Sweep",
    "is_run",
    "load_run",
    "load_sweep",
    "read_evaluation",
    "runs_below",
]
