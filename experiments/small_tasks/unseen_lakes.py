"""How much of a frozenlake run's gain is on lakes that training never drew: `… unseen_lakes.py <run dir> …`.

In: finished runs of `workflow=frozenlake`. Out: Markdown, two rows a run: held-out lakes that some training task had,
too, and those that none had, with success before and after and the paired difference.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean

from gymnasium.envs.toy_text.frozen_lake import generate_random_map

from ajet.config.compose import compose
from ajet.config.root import Config
from ajet.data.seeds import SeedTasks
from ajet.evaluate.statistics import paired_difference
from ajet.records import Task
from ajet.workflows.frozenlake.workflow import FrozenLake


def lakes(tasks: Iterable[Task], workflow: FrozenLake) -> dict[str, tuple[str, ...]]:
    """The lake of each task, by task_id."""
    return {
        task.task_id: tuple(generate_random_map(workflow.size, 1 - workflow.hole_share, task.metadata["random_number"]))
        for task in tasks
    }


def rows(run_dir: Path, config: Config) -> list[str]:
    """Seen lakes, then unseen ones."""
    workflow = FrozenLake(**config.workflow.params)
    source = SeedTasks(run_seed=config.seed)
    drawn = {
        lake
        for step in range(config.total_steps)
        for lake in lakes(source.train_tasks(step, config.rollout.num_tasks), workflow).values()
    }
    held_out = lakes(source.held_out_tasks(config.eval.num_tasks, offset=config.eval.seed_offset), workflow)
    summary = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
    scores = [summary[when]["scores"] for when in ("before", "after")]
    lines = []
    for name, is_seen in (("drawn in training, too", True), ("never drawn", False)):
        tasks = [task for task, lake in held_out.items() if (lake in drawn) == is_seen]
        before, after = ({task: one[task] for task in tasks} for one in scores)
        gain = paired_difference(before, after, confidence=0.95)
        lines.append(
            f"| {run_dir.name} | {name} | {len(tasks)} | {fmean(before.values()):.3f} | {fmean(after.values()):.3f} | "
            f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] |"
        )
    return lines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dirs", type=Path, nargs="+")
    print("| run | held-out lakes | number | before | after | difference [95%] |\n|---|---|---|---|---|---|")
    for run_dir in parser.parse_args().run_dirs:
        print("\n".join(rows(run_dir, compose.load(run_dir))))


if __name__ == "__main__":
    main()
