"""The tables of this page from run directories alone: `python experiments/werewolves_cpu/tables.py <run dir> …`.

In: finished runs. Out: Markdown, a row a run: the held-out score before and after with the paired difference, minutes
and memory; then what the trained roles did before and after, and how often a reply was malformed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ajet.tracking.files.reading import read_metric_lines

HABITS = (
    "seer_says_known_wolf",
    "seer_votes_known_wolf",
    "witch_saves",
    "witch_poisons_wolf",
    "wolves_agree",
    "vote_hits_wolf",
    "default_moves",
)


def held_out_lines(run_dir: Path) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """The first and the last evaluation's metrics."""
    lines = [line for line in read_metric_lines(run_dir / "metrics.jsonl") if "eval/episode/ok" in line]
    return lines[0], lines[-1]


def result_row(run_dir: Path) -> str:
    """Before, after, paired difference, minutes, memory."""
    summary: Mapping[str, Any] = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
    score = summary["comparison"]["score"]
    gain = score["difference"]
    minutes = sum(summary["wall_time_s"].values()) / 60
    return (
        f"| {run_dir.name} | {summary['num_steps']} | {score['before']['mean']:.3f} | {score['after']['mean']:.3f} | "
        f"{gain['mean']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}] | {gain['num']} | {minutes:.0f} | "
        f"{summary['peak_memory_gib']:.1f} |"
    )


def habit_rows(run_dirs: Sequence[Path]) -> list[str]:
    """Rates of decisions and of malformed replies, before → after, a column a run."""
    lines = [held_out_lines(run_dir) for run_dir in run_dirs]
    names = [f"eval/workflow/{habit}" for habit in HABITS]
    names += sorted({name for before, _ in lines for name in before if name.startswith("eval/format/")})
    return [
        f"| {name.removeprefix('eval/').removeprefix('workflow/')} | "
        + " | ".join(f"{before[name]:.3f} → {after[name]:.3f}" if name in after else "" for before, after in lines)
        + " |"
        for name in names
    ]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dirs", type=Path, nargs="+")
    run_dirs: list[Path] = parser.parse_args().run_dirs
    print("| run | steps | before | after | paired difference [95%] | pairs | minutes | GiB |")
    print("|---|---|---|---|---|---|---|---|")
    print("\n".join(result_row(run_dir) for run_dir in run_dirs))
    print("\n| held-out rate | " + " | ".join(run_dir.name for run_dir in run_dirs) + " |")
    print("|---" * (len(run_dirs) + 1) + "|")
    print("\n".join(habit_rows(run_dirs)))


if __name__ == "__main__":
    main()
