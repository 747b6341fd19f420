"""Reward curves per tag of one or several runs: `python -m ajet.analysis.curves <run dir> … --out curves.png`.

In: `metrics.jsonl` of runs that differ in their seed. Out: a panel a tag, all runs and their mean. Works while a run is
still going.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def load_metrics(run_dir: Path) -> list[dict[str, float]]:
    """The run's lines, in order; a last line that is still being written is left out."""
    lines = (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def reward_curves(run_dir: Path) -> dict[str, dict[int, float]]:
    """Mean reward of a step's episodes, by tag and step."""
    curves: dict[str, dict[int, float]] = {}
    for line in load_metrics(run_dir):
        for name, value in line.items():
            parts = name.split("/")
            if parts[0] == "reward" and parts[-1] == "mean":
                curves.setdefault("/".join(parts[1:-1]), {})[int(line["step"])] = value
    return curves


def plot_rewards(run_dirs: Sequence[Path], out: Path, *, title: str) -> None:
    """One panel a tag: every run thin, their mean thick."""
    runs = [reward_curves(run_dir) for run_dir in run_dirs]
    tags = sorted({tag for run in runs for tag in run})
    figure, axes = plt.subplots(1, len(tags), figsize=(4.2 * len(tags), 3.2), sharey=True, squeeze=False)
    for axis, tag in zip(axes[0], tags, strict=True):
        curves = [run[tag] for run in runs if tag in run]
        for curve in curves:
            axis.plot(list(curve), list(curve.values()), color="tab:blue", alpha=0.35, linewidth=1)
        steps = sorted(set.intersection(*(set(curve) for curve in curves)))
        means = [sum(curve[step] for curve in curves) / len(curves) for step in steps]
        axis.plot(steps, means, color="tab:blue", linewidth=2)
        axis.set(title=tag, xlabel="step", ylim=(0, 1))
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("mean reward")
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(out, dpi=110)
    plt.close(figure)


def main() -> None:
    """Plot from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("curves.png"))
    parser.add_argument("--title", default="reward per tag")
    arguments = parser.parse_args()
    plot_rewards(arguments.runs, arguments.out, title=arguments.title)


if __name__ == "__main__":
    main()
