"""The gates of `model=tiny_tasks`, a workflow after the other.

In: a checkpoint. Out, on held-out episodes: replies that cannot be parsed, replies that the workflow cannot use, and
success beside that of players of the teachers' sense on the same tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from ajet.models.gates.played import play, teachers_success

TEACHER_REPEATS = 5
"""Games of the teachers for one of the model's: their rate is what the model's is compared with."""
ILLEGAL: Mapping[str, tuple[str, ...]] = {
    "math": ("unusable_replies", "calculator_errors"),
    "countdown": ("illegal", "unboxed"),
    "frozenlake": ("illegal_moves",),
    "guess_number": ("illegal_replies",),
    "debate": ("illegal_statements",),
}
"""What each workflow counts of replies that it could not use."""


def measured(model: str, *, num_games: int, sense: float, temperature: float) -> dict[str, float]:
    """Every gate as `<workflow>/<what>`, rates between 0 and 1.

    Args:
        model: `model.path`, a folder or `builtin:tiny_tasks`.
        num_games: held-out games of each workflow.
        sense: the teachers' `sense`.
        temperature: of sampling.
    """
    gates: dict[str, float] = {}
    for name, counters in ILLEGAL.items():
        overrides = [f"workflow={name}", f"model.path={model}", f"rollout.temperature={temperature}"]
        metrics, groups = play(overrides, num_games)
        calls = [call for group in groups for episode in group.episodes for call in episode.calls if call.trained]
        num_illegal = sum(metrics[f"workflow/{counter}"] for counter in counters) * num_games
        gates[f"{name}/format_errors"] = fmean(call.format_error is not None for call in calls)
        gates[f"{name}/illegal_replies"] = num_illegal / len(calls)
        gates[f"{name}/success"] = metrics["episode/success_rate"]
        gates[f"{name}/success_of_teachers"] = teachers_success(
            overrides, num_games, sense=sense, repeats=TEACHER_REPEATS
        )
    return gates
