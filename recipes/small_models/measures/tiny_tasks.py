"""What `model=tiny_tasks` can do, a workflow after the other.

In: a checkpoint. Out, on held-out episodes: replies of the trained agent that cannot be parsed, what of them the
workflow cannot use, and success beside that of players of the teachers' sense on the same tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from recipes.small_models.measures.played import play, teachers_success

TEACHER_REPEATS = 5
"""Games of the teachers for one of the model's: their rate is what the model's is compared with."""
ERRORS: Mapping[str, tuple[str, ...]] = {
    "math": ("unusable_replies", "unworked_answers", "calculator_errors"),
    "countdown": ("illegal", "unboxed"),
    "frozenlake": ("illegal_moves",),
    "guess_number": ("illegal_replies",),
    "debate": ("illegal_statements_pro",),
}
"""What each workflow counts of what its trained agent said and it could not use."""


def measured(model: str, *, num_games: int, sense: float, temperature: float) -> dict[str, float]:
    """Every gate as `<workflow>/<what>`: rates between 0 and 1, but for `errors_per_call`, as a call may make several.

    Args:
        model: `model.path`, a folder or `builtin:tiny_tasks`.
        num_games: held-out games of each workflow.
        sense: the teachers' `sense`.
        temperature: of sampling.
    """
    gates: dict[str, float] = {}
    for name, counters in ERRORS.items():
        overrides = [f"workflow={name}", f"model.path={model}", f"rollout.temperature={temperature}"]
        metrics, groups = play(overrides, num_games)
        # An episode that failed has calls and no counts.
        episodes = [episode for group in groups for episode in group.episodes if episode.status == "ok"]
        calls = [call for episode in episodes for call in episode.calls if call.trained]
        num_errors = sum(episode.log_metrics[counter] for episode in episodes for counter in counters)
        gates[f"{name}/format_errors"] = fmean(call.format_error is not None for call in calls)
        gates[f"{name}/errors_per_call"] = num_errors / len(calls)
        gates[f"{name}/success"] = metrics["episode/success_rate"]
        gates[f"{name}/success_of_teachers"] = teachers_success(
            overrides, num_games, sense=sense, repeats=TEACHER_REPEATS
        )
    return gates
