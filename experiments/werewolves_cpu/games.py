"""Held-out games before and after training: `python experiments/werewolves_cpu/games.py <run dir> [task …]`.

In: a run directory that kept its evaluations' trajectories. Out: the same seeds as Markdown, first the starting
policy's game, then the trained one's. Without a task the first lost-then-won game is shown.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq


def held_out_games(path: Path) -> dict[str, tuple[bool, list[str]]]:
    """(trained side won, events) by task."""
    table = pq.read_table(path, columns=["task", "success", "metadata"])
    games: dict[str, tuple[bool, list[str]]] = {}
    for row in table.to_pylist():
        if row["task"] not in games:
            games[row["task"]] = (bool(row["success"]), json.loads(row["metadata"]).get("events", []))
    return games


def show(task: str, before: Mapping[str, tuple[bool, list[str]]], after: Mapping[str, tuple[bool, list[str]]]) -> None:
    """One seed, both ways."""
    for title, games in (("before", before), ("after", after)):
        won, events = games[task]
        print(f"### {task}, {title}: {'won' if won else 'lost'}\n\n```")
        print("\n".join(events) + "\n```\n")


def main() -> None:
    """Print the games asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("tasks", nargs="*")
    arguments = parser.parse_args()
    files = sorted((arguments.run_dir / "trajectories").glob("eval_*.parquet"))
    before, after = held_out_games(files[0]), held_out_games(files[-1])
    turned = [task for task in before if not before[task][0] and after[task][0]]
    for task in arguments.tasks or turned[:1]:
        show(task, before, after)


if __name__ == "__main__":
    main()
