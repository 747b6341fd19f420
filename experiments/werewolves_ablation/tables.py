"""The tables and plots of this page from the sweep's directory alone.

    python experiments/werewolves_ablation/tables.py <sweep dir> [--out experiments/werewolves_ablation]

In: a sweep over `trainable_targets` and `seed`, finished or not. Out: Markdown (what training each choice of roles
gained, the choices against each other, what single runs gained, what it cost), `forest.png` and `curves.png`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ajet.analysis import load_sweep
from ajet.analysis.effects import Effect, held_out_scores, run_effect, sweep_contrasts, sweep_effects
from ajet.analysis.plots import plot_forest, plot_rewards
from ajet.analysis.runs import Sweep


def with_interval(effect: Effect) -> str:
    """The difference and its interval."""
    difference = effect.difference
    return f"{difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"


def effect_rows(effects: Sequence[Effect], *, before: str = "before", after: str = "after") -> str:
    """A row an effect; p-values are corrected by Holm within the table."""
    rows = [
        f"| {effect.label} | {effect.num_runs} | {effect.before.mean:.3f} | {effect.after.mean:.3f} | "
        f"{with_interval(effect)} | {effect.p_value:.2g} | {effect.pairs_needed or '-'} |"
        for effect in effects
    ]
    return "\n".join(
        [
            f"| | runs | {before} | {after} | difference [95%] | p | tasks needed |",
            "|---|---|---|---|---|---|---|",
            *rows,
        ]
    )


def seed_rows(sweep: Sweep) -> str:
    """The paired difference of every run, a column a seed."""
    seeds = sorted({int(run.config["seed"]) for run in sweep})
    lines = [f"| | {' | '.join(f'seed {seed}' for seed in seeds)} |", "|---" * (len(seeds) + 1) + "|"]
    for label, runs in sweep.conditions().items():
        found = {int(run.config["seed"]): effect for run in runs if (effect := run_effect(run)) is not None}
        cells = [with_interval(found[seed]) if seed in found else "" for seed in seeds]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cost_rows(sweep: Sweep) -> str:
    """Means over the runs of a condition."""
    lines = ["| | minutes a run | sampled tokens | trained tokens |", "|---|---|---|---|"]
    for label, runs in sweep.conditions().items():
        done = [run for run in runs if held_out_scores(run) is not None]
        if not done:
            continue
        minutes = sum(sum(run.summary["wall_time_s"].values()) for run in done if run.summary) / len(done) / 60
        sampled, trained = (sum(run.metrics[f"tokens/{kind}"].sum() for run in done) for kind in ("sampled", "trained"))
        lines.append(f"| {label} | {minutes:.1f} | {sampled / len(done):,.0f} | {trained / len(done):,.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables and save the plots."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    sweep = load_sweep(arguments.sweep)
    effects = sorted(sweep_effects(sweep), key=lambda effect: -effect.difference.mean)
    tables = {
        "What training gained": effect_rows(effects),
        "Seed by seed": seed_rows(sweep),
        "One choice over another: difference of gains": effect_rows(
            sweep_contrasts(sweep), before="gain of the other", after="gain of the one"
        ),
        "Cost": cost_rows(sweep),
    }
    for title, table in tables.items():
        print(f"### {title}\n\n{table}\n")
    plot_forest(effects).savefig(arguments.out / "forest.png", dpi=110)
    curves = {label: [run.metrics for run in runs] for label, runs in sweep.conditions().items()}
    plot_rewards(curves).savefig(arguments.out / "curves.png", dpi=110)


if __name__ == "__main__":
    main()
