"""Losses and credit rules at equal episodes.

    python -m experiments.algorithms_cpu.run frozenlake [--only gspo cispo] [--seeds 0 1 2] [--jobs 2]

In: nothing but the variants below. Out: a line for each run in `<game>.jsonl` beside this file, with its settings, its
scores on the held-out tasks and its rewards by step; then a Markdown table of the variants that every seed has
finished. Runs whose line is there are skipped, so the comparison can be stopped, started and added to at will; the
line holds all that the table needs, for run directories are large. Variants are compared by their play after training,
on the same held-out tasks and between runs of the same seed. Only `BASE` plays them before training, too: all start
alike.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from threading import Lock
from typing import Any

from ajet.evaluate.statistics import crossed_level, crossed_mean, holm
from ajet.tracking.files.reading import read_metric_lines

HERE = Path(__file__).parent
GAMES = {
    # Several optimizer steps a batch, as all have: where there is one, all ratios are 1, and losses are the same.
    "frozenlake": ("workflow=frozenlake",),
    "werewolves_quick": ("experiment=werewolves_quick",),
    "werewolves": ("workflow=werewolves", "trainable_targets=[seer,witch]"),
}
BASE = "grpo"
PRESETS = ("dapo", "dr_grpo", "rloo", "reinforce_pp", "gspo", "cispo", "sapo", "gmpo", "kl_cov")
CREDIT = {
    # `per_turn` is the same here: an agent alone in its role, and no call with a reward of its own.
    "agent_turn": ("credit=agent_turn",),
    "agent_turn, votes": ("credit=agent_turn", "workflow.params.vote_reward=0.25"),
    "shared": ("credit=shared",),
    "rae": ("credit=rae", "algorithm.advantage=dr_grpo"),
    "difference": ("credit=difference",),
    "difference, token mean": ("credit=difference", "algorithm.aggregation=dapo"),
    "counterfactual": ("credit=counterfactual",),
    "critic": ("credit=critic", "algorithm.advantage=dr_grpo", "algorithm.scale_rewards=advantages"),
}
VARIANTS: dict[str, tuple[str, ...]] = {
    BASE: (),
    "falling rate": ("algorithm.lr_schedule=linear",),
    # What the presets below change, each by itself.
    "token mean": ("algorithm.aggregation=dapo",),
    "role mean": ("algorithm.aggregation=role_mean",),
    "no deviation": ("algorithm.advantage=dr_grpo",),
    **{name: (f"algorithm={name}",) for name in PRESETS},
    **{f"credit {name}": settings for name, settings in CREDIT.items()},
}
WITH_VOTES = "credit agent_turn, votes"
"""The variant that games without votes do not have."""
HABITS = ("seer_says_known_wolf", "seer_votes_known_wolf", "witch_saves", "vote_hits_wolf")
"""Of the werewolves' tables, those that are shown."""
_WRITING = Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A run that came to its end."""

    variant: str
    seed: int
    settings: list[str]
    commit: str
    """Of the code that it ran on."""
    seconds: float
    """Of training steps, whatever else the machine did."""
    tokens: float
    """Sampled in training."""
    rewards: list[float]
    """By step, mean over tags."""
    malformed: float
    """Share of malformed replies in the last evaluation, the tag that has most."""
    before: list[float] | None
    """Scores on the held-out tasks in their order, before training; of `BASE` alone."""
    after: list[float]
    habits: dict[str, float] = field(default_factory=dict)
    """What the game measures of the play after training, by name."""


def results(game: str) -> list[Result]:
    """What has been run."""
    path = HERE / f"{game}.jsonl"
    return [Result(**json.loads(line)) for line in path.read_text().splitlines()] if path.is_file() else []


def variants_of(game: str) -> list[str]:
    """Those that a game has."""
    return [name for name in VARIANTS if name != WITH_VOTES or game.startswith("werewolves")]


def play(game: str, variant: str, seed: int, threads: int) -> None:
    """Train one run to its end, and keep its line; says what it died of where it does."""
    settings = [*GAMES[game], *VARIANTS[variant], f"seed={seed}"]
    if not any(setting.startswith("algorithm=") for setting in settings):
        settings.append(f"algorithm={BASE}")  # a game may have another
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        told = [f"run_dir={run_dir}", "logger=quiet", "logger.wandb.mode=disabled", "checkpoint.every=0"]
        told += [f"hardware.sampling_threads={threads}", f"hardware.training_threads={threads}"]
        told += [f"eval.first={str(variant == BASE).lower()}", "logger.trajectories_every=0"]
        print(f"{game}, {variant}, seed {seed}", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "ajet.train", *told, *settings]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            print(f"{game}, {variant}, seed {seed} failed:\n{done.stderr}", file=sys.stderr, flush=True)
            return
        result = _result(run_dir, variant, seed, settings)
    with _WRITING, (HERE / f"{game}.jsonl").open("a") as file:
        file.write(json.dumps(asdict(result)) + "\n")


def _result(run_dir: Path, variant: str, seed: int, settings: list[str]) -> Result:
    summary: Mapping[str, Any] = json.loads((run_dir / "summary.json").read_text())
    lines = [line for line in read_metric_lines(run_dir / "metrics.jsonl") if "time/step" in line]
    malformed = [value for name, value in summary["after"]["metrics"].items() if name.endswith("/error_rate")]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    return Result(
        variant=variant,
        seed=seed,
        settings=settings,
        commit=commit.stdout.strip(),
        seconds=round(sum(line["time/step"] for line in lines), 1),
        tokens=sum(line["tokens/sampled"] for line in lines),
        rewards=[round(_mean_reward(line), 4) for line in lines],
        malformed=max(malformed, default=0.0),
        before=_in_order(summary["before"]["scores"]) if "before" in summary else None,
        after=_in_order(summary["after"]["scores"]),
        habits={
            name.removeprefix("workflow/"): round(value, 4)
            for name, value in summary["after"]["metrics"].items()
            if name.startswith("workflow/")
        },
    )


def _mean_reward(line: Mapping[str, float]) -> float:
    return fmean(value for name, value in line.items() if name.startswith("reward/") and name.endswith("/mean"))


def _in_order(scores: Mapping[str, float]) -> list[float]:
    return [round(score, 6) for _, score in sorted(scores.items())]


def table(game: str, seeds: Sequence[int]) -> Iterator[str]:
    """Lines of Markdown: the variants that every seed has finished; p-values corrected by Holm over them."""
    found = {(result.variant, result.seed): result for result in results(game)}
    names = [name for name in VARIANTS if all((name, seed) in found for seed in seeds)]
    if BASE not in names or len(seeds) < 2:  # of one run nothing is known of its spread
        return
    yield f"| {game} | after training | over {BASE} [95%] | p | by seed | reward on the way | malformed | seconds |"
    yield "|---|---|---|---|---|---|---|---|"
    others = [name for name in names if name != BASE]
    over = {name: [_differences(found[name, seed].after, found[BASE, seed].after) for seed in seeds] for name in others}
    means = {name: crossed_mean(differences, confidence=0.95) for name, differences in over.items()}
    p_values = dict(zip(others, holm([means[name].p_value for name in others]), strict=True))
    for name in names:
        runs = [found[name, seed] for seed in seeds]
        level = crossed_level([_named(run.after) for run in runs], confidence=0.95)
        compared = "| | |"
        if name != BASE:
            gain = means[name].interval
            by_seed = " ".join(f"{fmean(one.values()):+.3f}" for one in over[name])
            compared = f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] | {p_values[name]:.3f} | {by_seed} |"
        yield (
            f"| {name} | {level.mean:.3f} [{level.low:.3f}, {level.high:.3f}] | {compared} "
            f"{fmean(reward for run in runs for reward in run.rewards):.3f} | "
            f"{max(run.malformed for run in runs):.1%} | {fmean(run.seconds for run in runs):.0f} |"
        )
    started = [run.before for run in results(game) if run.before is not None]
    yield f"\nBefore training {fmean(score for scores in started for score in scores):.3f}."


def habits_table(game: str, seeds: Sequence[int]) -> Iterator[str]:
    """Lines of Markdown: what the game measures of the play after training, each of the `seeds`, a row a variant."""
    found = {(result.variant, result.seed): result.habits for result in results(game)}
    names = [name for name in VARIANTS if all(found.get((name, seed)) for seed in seeds)]
    shown = [habit for habit in HABITS if any(habit in found[name, seed] for name in names for seed in seeds)]
    if not shown:
        return
    yield "\n| " + " | ".join(["", *shown]) + " |"
    yield "|---" * (1 + len(shown)) + "|"
    for name in names:
        cells = [" ".join(f"{found[name, seed].get(habit, math.nan):.2f}" for seed in seeds) for habit in shown]
        yield f"| {' | '.join([name, *cells])} |"


def _named(scores: Sequence[float]) -> dict[str, float]:
    """By task; they have the same order in every run."""
    return {str(n): score for n, score in enumerate(scores)}


def _differences(scores: Sequence[float], others: Sequence[float]) -> dict[str, float]:
    return _named([a - b for a, b in zip(scores, others, strict=True)])


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("game", choices=list(GAMES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), metavar="VARIANT", help="all by default")
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side")
    parser.add_argument("--threads", type=int, help="of each run; the cores shared out where not given")
    arguments = parser.parse_args()
    threads = arguments.threads or max(1, (os.cpu_count() or 1) // arguments.jobs)
    finished = {(result.variant, result.seed) for result in results(arguments.game)}
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for seed in arguments.seeds:  # all variants of a seed first: what is cut short compares them all
            for variant in arguments.only or variants_of(arguments.game):
                if (variant, seed) not in finished:
                    pool.submit(play, arguments.game, variant, seed, threads)
    for line in [*table(arguments.game, arguments.seeds), *habits_table(arguments.game, arguments.seeds)]:
        print(line)


if __name__ == "__main__":
    main()
