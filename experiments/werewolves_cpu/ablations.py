"""Short ablations at equal games: `python experiments/werewolves_cpu/ablations.py <folder> [--seeds 1 2 3] [--jobs 2]`.

In: nothing but the variants below. Out: a run directory each, `<folder>/<variant>/seed<n>`, then a Markdown table of
those that every seed has finished. Finished runs are skipped, so the script can be stopped and started at will. Each
run is the table of seven with the seer trained and one thing changed from `BASE`, which takes one optimizer step a
batch; today's defaults take four, one of the variants. Variants are compared by their play after training, on the same
held-out tasks and between runs of the same seed. Left out: the evaluation before training, which is the same for all.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean
from typing import Any

from ajet.evaluate.statistics import crossed_mean
from ajet.tracking.files.reading import read_metric_lines

TABLE = ["experiment=werewolves_seven"]
BASE = "one optimizer step a batch"
PAIR = "seer and witch, one baseline each"
COMMON = "seer and witch, one baseline for both"
VARIANTS: dict[str, list[str]] = {
    BASE: [],
    "learning rate halved": ["algorithm.learning_rate=3e-4"],
    "learning rate doubled": ["algorithm.learning_rate=1.2e-3"],
    "twice the games a step, half the steps": ["rollout.num_tasks=16", "total_steps=5"],
    "2 optimizer steps a batch": ["algorithm.num_minibatches=2"],
    "KL penalty .05": ["algorithm.kl_coef=0.05"],
    "uncertain tokens only": ["algorithm.min_entropy=0.3"],
    "4 groups of 16": ["rollout.num_tasks=4", "rollout.group_size=16"],
    "16 groups of 4": ["rollout.num_tasks=16", "rollout.group_size=4"],
    "learning rate falling to 0": ["algorithm.lr_schedule=linear"],
    "no warm-up": ["algorithm.warmup_steps=0"],
    "no division by std": ["algorithm.advantage=dr_grpo"],
    "leave-one-out baseline": ["algorithm.advantage=rloo"],
    "4 optimizer steps a batch": ["algorithm.num_minibatches=4"],
    "no price on malformed replies": ["algorithm.format_penalty=0"],
    PAIR: ["trainable_targets=[seer,witch]"],
    COMMON: ["trainable_targets=[seer,witch]", "credit=per_task"],
}
COMPARED_WITH = {PAIR: PAIR, COMMON: PAIR}
"""Instead of with `BASE`."""


def run_dir(folder: Path, variant: str, seed: int) -> Path:
    """Where a variant's run with this seed lies."""
    return folder / variant.replace(" ", "_").replace(",", "") / f"seed{seed}"


def is_finished(directory: Path) -> bool:
    """Whether the run came to its end."""
    return (directory / "summary.json").is_file()


def play(directory: Path, name: str, overrides: list[str], threads: int) -> None:
    """Train one run to its end; one that was cut off starts again."""
    if is_finished(directory):
        return
    if directory.exists():
        shutil.rmtree(directory)
    settings = [f"run_dir={directory}", "logger=quiet", "eval.first=false", "checkpoint.every=0"]
    settings += [f"hardware.sampling_threads={threads}", f"hardware.training_threads={threads}"]
    print(name, file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "ajet.train", *settings, *overrides]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        print(f"{name} failed:\n{done.stderr}", file=sys.stderr, flush=True)


def table_row(folder: Path, variant: str, seeds: list[int]) -> str:
    """What the variant's play is after training, what it is over the base's, and how it came there."""
    base = COMPARED_WITH.get(variant, BASE)
    after = {seed: _after(run_dir(folder, variant, seed)) for seed in seeds}
    bases = {seed: _after(run_dir(folder, base, seed)) for seed in seeds}
    differences = [
        {task: score - bases[seed]["scores"][task] for task, score in after[seed]["scores"].items()} for seed in seeds
    ]
    over = crossed_mean(differences, confidence=0.95).interval
    by_seed = " ".join(f"{fmean(one.values()):+.3f}" for one in differences)
    compared = "" if variant == base else f"{over.mean:+.3f} [{over.low:+.3f}, {over.high:+.3f}]"
    malformed = max(
        value for one in after.values() for name, value in one["metrics"].items() if name.endswith("/error_rate")
    )
    scores = fmean(fmean(one["scores"].values()) for one in after.values())
    return (
        f"| {variant} | {scores:.3f} | {compared} | {'' if variant == base else by_seed} | "
        f"{_reward_on_the_way(folder, variant, seeds):.3f} | {malformed:.1%} |"
    )


def _after(directory: Path) -> Mapping[str, Any]:
    summary: Mapping[str, Any] = json.loads((directory / "summary.json").read_text())
    return summary["after"]


def _reward_on_the_way(folder: Path, variant: str, seeds: list[int]) -> float:
    """The seer's mean reward over all steps and seeds: how early a variant learns."""
    lines = [line for seed in seeds for line in read_metric_lines(run_dir(folder, variant, seed) / "metrics.jsonl")]
    return fmean(line["reward/seer/mean"] for line in lines if "reward/seer/mean" in line)


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side")
    parser.add_argument("--threads", type=int, help="of each run; the cores shared out where not given")
    arguments = parser.parse_args()
    threads = arguments.threads or max(1, (os.cpu_count() or 1) // arguments.jobs)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for variant in arguments.only:
            for seed in arguments.seeds:
                overrides = [*TABLE, "trainable_targets=[seer]", "algorithm.num_minibatches=1", f"seed={seed}"]
                directory = run_dir(arguments.folder, variant, seed)
                pool.submit(play, directory, f"{variant}, seed {seed}", [*overrides, *VARIANTS[variant]], threads)
    if len(arguments.seeds) < 2:
        print("no table: of one seed nobody knows the spread", file=sys.stderr)
        return
    print(
        "| variant | after training | over the first row | by seed | reward on the way | most malformed |\n"
        "|---|---|---|---|---|---|"
    )
    for variant in arguments.only:
        needed = (COMPARED_WITH.get(variant, BASE), variant)
        if all(is_finished(run_dir(arguments.folder, one, seed)) for one in needed for seed in arguments.seeds):
            print(table_row(arguments.folder, variant, arguments.seeds))


if __name__ == "__main__":
    main()
