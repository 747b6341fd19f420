"""Reward curves per tag of runs differing in seed: `python -m ajet.analysis.curves <run> … --out curves.png`."""

from __future__ import annotations

import argparse
from pathlib import Path

from ajet.analysis.frames import read_metrics
from ajet.analysis.plots import plot_rewards


def main() -> None:
    """Plot from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("curves.png"))
    parser.add_argument("--title", default="reward per tag")
    arguments = parser.parse_args()
    figure = plot_rewards({"": [read_metrics(run) for run in arguments.runs]})
    figure.suptitle(arguments.title)
    figure.savefig(arguments.out, dpi=110)


if __name__ == "__main__":
    main()
