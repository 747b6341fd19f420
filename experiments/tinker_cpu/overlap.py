"""Seconds a step on a Tinker server: strictly in turn, what is asked for ahead, and playing a step ahead.

    make setup-tinker
    python -m experiments.tinker_cpu.overlap --rounds 3       # into outputs/tinker_overlap; a table at the end

All conditions use one server and take turns, so that what else the machine does falls on all of them alike.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from experiments.tinker_cpu.run import COMMON, SLOTS
from recipes.tinker_server.process import TinkerServer

from ajet.config.model import resolve_model_path
from ajet.tracking.files.reading import read_metric_lines
from ajet.train.__main__ import main as train

PLAIN = ("algorithm.kl_coef=0", "algorithm.kl_schedule=constant")
CONDITIONS: dict[str, tuple[str, ...]] = {
    "linearised, in turn": (*PLAIN, "tinker.loss=linearised"),
    "the server's own PPO": PLAIN,
    "a step ahead": (*PLAIN, "rollout.max_steps_off_policy=1"),
    "KL penalty, in turn": (),
    "KL penalty, a step ahead": ("rollout.max_steps_off_policy=1",),
}
PHASES = ("step", "rollout", "update", "sync", "overlap")
WARMING = 2
"""Steps of each run that compile, probe and check, and are not counted."""


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--folder", type=Path, default=Path("outputs/tinker_overlap"))
    arguments = parser.parse_args()
    folder: Path = arguments.folder.resolve()
    model = Path(resolve_model_path("builtin:tiny"))
    with TinkerServer(model, folder / "server", backend=SLOTS) as server:
        for number in range(arguments.rounds):
            for name, settings in CONDITIONS.items():
                where = (
                    f"run_dir={_run_dir(folder, name, number)}",
                    "hardware=tinker",
                    f"tinker.base_url={server.url}",
                )
                told = (f"total_steps={arguments.steps}", "eval=none", "checkpoint.every=0", f"seed={number}")
                if code := train([*COMMON, *where, *told, *settings]):
                    raise SystemExit(code)
    for line in table(folder, arguments.rounds):
        print(line)


def table(folder: Path, rounds: int) -> Iterator[str]:
    """Lines of Markdown: medians over all steps of all rounds, and the lowest and highest median of a round."""
    yield f"| | {' | '.join(f'{phase}, s' for phase in PHASES)} | medians of rounds |"
    yield f"|---|{'---|' * (len(PHASES) + 1)}"
    for name in CONDITIONS:
        by_round = [_steps(_run_dir(folder, name, number)) for number in range(rounds)]
        steps = [step for one in by_round for step in one]
        seconds = [f"{median(step.get(f'time/{phase}', 0.0) for step in steps):.1f}" for phase in PHASES]
        medians = sorted(median(step["time/step"] for step in one) for one in by_round)
        yield f"| {name} | {' | '.join(seconds)} | {medians[0]:.1f} to {medians[-1]:.1f} |"


def _steps(run: Path) -> list[dict[str, float]]:
    return [line for line in read_metric_lines(run / "metrics.jsonl") if "time/step" in line][WARMING:]


def _run_dir(folder: Path, name: str, number: int) -> Path:
    return folder / f"{name.replace(' ', '_').replace(',', '').replace(chr(39), '')}_{number}"


if __name__ == "__main__":
    main()
