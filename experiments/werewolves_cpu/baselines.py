"""One baseline a role, or a common one: `python experiments/werewolves_cpu/baselines.py <folder> [--seeds 1 2 3]`.

In: nothing but the variants below. Out: a run directory each, `<folder>/<variant>/seed<n>`, two evaluations in it, then
a Markdown table of those that every seed has finished. Each run trains the seer and the werewolves of the table of
seven together, who play against each other: only there do the two baselines differ. Their play is then measured one
role at a time, against scripted players. Finished runs and evaluations are skipped.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean
from typing import Any

from ablations import TABLE, play, run_dir

from ajet.analysis.frames import read_metric_lines
from ajet.statistics import crossed_mean

PER_TAG = "one baseline a role"
COMMON = "a common baseline"
ROLES = ("seer", "werewolf")
# Training both sides at once is refused, unless the workflow is said to have no sides.
TOGETHER = [*TABLE, f"trainable_targets=[{','.join(ROLES)}]", "workflow.hostile=[]", "eval.last=false"]
VARIANTS = {PER_TAG: TOGETHER, COMMON: [*TOGETHER, "algorithm.baseline_per=task"]}


def evaluate(directory: Path, role: str) -> None:
    """Play the run's policy in one of its roles, if that was not done."""
    if (directory / f"as_{role}" / "evaluation.json").is_file() or not (directory / "summary.json").is_file():
        return
    command = [sys.executable, "-m", "ajet.evaluate", f"run={directory}", f"trainable_targets=[{role}]", "console=none"]
    subprocess.run([*command, f"hydra.run.dir={directory / f'as_{role}'}"], check=True)


def train_and_evaluate(folder: Path, variant: str, seed: int, threads: int) -> None:
    """One run and its evaluations."""
    directory = run_dir(folder, variant, seed)
    play(directory, f"{variant}, seed {seed}", [*VARIANTS[variant], f"seed={seed}"], threads)
    for role in ROLES:
        evaluate(directory, role)


def table_row(folder: Path, variant: str, role: str, seeds: list[int]) -> str:
    """The role's win rate before and after, what it is over the other baseline's, and the policy it came with."""
    mine = [_evaluation(run_dir(folder, variant, seed), role) for seed in seeds]
    others = [_evaluation(run_dir(folder, PER_TAG, seed), role) for seed in seeds]
    differences = [
        {task: score - other["after"]["scores"][task] for task, score in one["after"]["scores"].items()}
        for one, other in zip(mine, others, strict=True)
    ]
    over = crossed_mean(differences, confidence=0.95).interval
    compared = f"{over.mean:+.3f} [{over.low:+.3f}, {over.high:+.3f}]"
    by_seed = " ".join(f"{fmean(one.values()):+.3f}" for one in differences)
    before, after = (fmean(fmean(one[when]["scores"].values()) for one in mine) for when in ("before", "after"))
    last = [read_metric_lines(run_dir(folder, variant, seed))[-1] for seed in seeds]
    entropy = fmean(line[f"policy/{role}/entropy"] for line in last)
    malformed = max(line[f"format/{role}/error_rate"] for line in last)
    same = variant == PER_TAG
    return (
        f"| {variant} | {role} | {before:.3f} → {after:.3f} | {'' if same else compared} | {'' if same else by_seed} | "
        f"{entropy:.3f} | {malformed:.1%} |"
    )


def _evaluation(directory: Path, role: str) -> Mapping[str, Any]:
    loaded: Mapping[str, Any] = json.loads((directory / f"as_{role}" / "evaluation.json").read_text())
    return loaded


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side")
    arguments = parser.parse_args()
    if len(arguments.seeds) < 2:
        parser.error("two seeds at least, or nothing is known of their spread")
    threads = max(1, (os.cpu_count() or 1) // arguments.jobs)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        jobs = [
            pool.submit(train_and_evaluate, arguments.folder, variant, seed, threads)
            for seed in arguments.seeds
            for variant in VARIANTS
        ]
    for job in jobs:
        job.result()
    print(
        "| baseline | role | win rate, before → after | over one a role | by seed | entropy at the end | malformed |\n"
        "|---|---|---|---|---|---|---|"
    )
    for role in ROLES:
        for variant in VARIANTS:
            print(table_row(arguments.folder, variant, role, arguments.seeds))


if __name__ == "__main__":
    main()
