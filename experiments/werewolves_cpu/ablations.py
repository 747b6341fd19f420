"""Short ablations at equal games: `python experiments/werewolves_cpu/ablations.py <folder> [--seeds 1 2 3]`.

In: nothing but the variants below. Out: a run directory each, `<folder>/<variant>/seed<n>`, then a Markdown table of
all that are finished. Finished runs are skipped, so the script can be stopped and started at will. Each run is
`experiment=werewolves_quick` with one thing changed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

VARIANTS: dict[str, list[str]] = {
    "default": [],
    "learning rate halved": ["algorithm.learning_rate=3e-4"],
    "learning rate doubled": ["algorithm.learning_rate=1.2e-3"],
    "learning rate falling to 0": ["algorithm.lr_schedule=linear"],
    "no warm-up": ["algorithm.warmup_steps=0"],
    "no price on malformed replies": ["algorithm.format_penalty=0"],
    "KL penalty .05": ["algorithm.kl_coef=0.05"],
    "KL penalty .05, falling to 0": ["algorithm.kl_coef=0.05", "algorithm.kl_schedule=linear"],
    "8 groups of 16": ["rollout.num_tasks=8", "rollout.group_size=16"],
    "32 groups of 4": ["rollout.num_tasks=32", "rollout.group_size=4"],
    "2 optimizer steps a batch": ["algorithm.num_minibatches=2"],
    "4 optimizer steps a batch": ["algorithm.num_minibatches=4"],
    "uncertain tokens only": ["algorithm.min_entropy=0.3"],
    "no division by std": ["algorithm.advantage=dr_grpo"],
    "leave-one-out baseline": ["algorithm.advantage=rloo"],
}


def run_dir(folder: Path, variant: str, seed: int) -> Path:
    """Where a variant's run with this seed lies."""
    return folder / variant.replace(" ", "_").replace(",", "") / f"seed{seed}"


def play(directory: Path, variant: str, seed: int) -> None:
    """Train one run to its end, or go on with it."""
    if (directory / "summary.json").is_file():
        return
    settings = [f"resume={directory}"]
    if not (directory / "checkpoints").is_dir():
        settings = ["experiment=werewolves_quick", f"seed={seed}", f"run_dir={directory}", "logger=quiet"]
        settings += VARIANTS[variant]
    print(f"{variant}, seed {seed}", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "ajet.train", *settings], check=True, stdout=subprocess.DEVNULL)


def table_row(variant: str, directories: Sequence[Path]) -> str:
    """Before, after and gain: mean over seeds, each seed's gain, and the malformed replies at the end."""
    summaries: list[dict[str, Any]] = [json.loads((one / "summary.json").read_text()) for one in directories]
    scores = [summary["comparison"]["score"] for summary in summaries]
    gains = [score["difference"]["mean"] for score in scores]
    spread = f"{stdev(gains):.3f}" if len(gains) > 1 else ""
    errors = [
        value for summary in summaries for name, value in summary["after"]["metrics"].items() if "error_rate" in name
    ]
    return (
        f"| {variant} | {fmean(score['after']['mean'] for score in scores):.3f} | {fmean(gains):+.3f} | {spread} | "
        f"{' '.join(f'{gain:+.3f}' for gain in gains)} | {max(errors):.1%} |"
    )


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), metavar="VARIANT")
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        for variant in arguments.only:
            play(run_dir(arguments.folder, variant, seed), variant, seed)
    print("| variant | after | gain | sd over seeds | each seed's gain | most malformed |\n|---|---|---|---|---|---|")
    for variant in arguments.only:
        print(table_row(variant, [run_dir(arguments.folder, variant, seed) for seed in arguments.seeds]))


if __name__ == "__main__":
    main()
