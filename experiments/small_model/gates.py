"""What the shipped model can do before any reinforcement learning, on held-out games against scripted players.

    python experiments/small_model/gates.py [--model builtin:tiny] [--games 200]

Prints, for the seer and the witch and for the werewolves: format errors, replies without a usable decision, recited
notes that are right, a known werewolf announced and voted, win rate. For signals: the mean reward, whose chance level
is one in the number of objects.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from contextlib import ExitStack
from statistics import fmean

from ajet.assemble import make_engine, make_scheduler, workflow_maker
from ajet.config.compose import compose
from ajet.config.model import resolve_model_path
from ajet.data.seeds import SeedTasks
from ajet.evaluation.scores import play_held_out
from ajet.models.recipe import SENSE
from ajet.records import EpisodeGroup
from ajet.rollout.runtime import RolloutRuntime
from ajet.tracking.console import SilentDisplay
from ajet.workflows.loading import load_workflow

NOTE = re.compile(r"(?:Seen|Called|Claimed|Attacked|Proposed)[a-z ]*: [^.]*\.")


def play(overrides: list[str], num_games: int) -> tuple[dict[str, float], list[EpisodeGroup]]:
    config = compose([*overrides, "logger.console=none"], run_dir=tempfile.mkdtemp())
    workflow = load_workflow(config.workflow.entry)
    path = resolve_model_path(config.model.path)
    with ExitStack() as opened, RolloutRuntime() as runtime:
        engine = make_engine(config, path)
        opened.callback(engine.close)
        maker = workflow_maker(workflow, config)
        scheduler = make_scheduler(config, workflow, maker, path, engine, SilentDisplay(), opened)
        tasks = SeedTasks(run_seed=0).held_out_tasks(num_games, offset=5_000_000)
        evaluation, groups = runtime.run(play_held_out(scheduler, tasks, repeats=1))
        return evaluation.metrics, groups


def recited_rate(groups: list[EpisodeGroup]) -> float:
    """Share of notes in replies that stand word for word in the request that they answer."""
    right = [
        note in str(call.messages[-1]["content"])
        for group in groups
        for episode in group.episodes
        for call in episode.calls
        if call.trained
        for note in NOTE.findall(call.reply)
    ]
    return fmean(right)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="builtin:tiny")
    parser.add_argument("--games", type=int, default=200)
    arguments = parser.parse_args()
    for targets in ("[seer,witch]", "[werewolf]"):
        overrides = ["workflow=werewolves", f"trainable_targets={targets}", f"model.path={arguments.model}"]
        metrics, groups = play(overrides, arguments.games)
        print(f"\nwerewolves {targets}, {arguments.games} held-out games")
        print(f"  recited notes right       {recited_rate(groups):.4f}")
        for name, value in metrics.items():
            if name.startswith(("format/", "workflow/", "episode/success", "episode/calls", "tokens/")):
                print(f"  {name:40} {value:.4f}")
    metrics, _ = play(
        ["workflow=signals", "trainable_targets=[speaker,listener]", f"model.path={arguments.model}"], arguments.games
    )
    print(f"\nsignals, {arguments.games} held-out rounds")
    for name, value in metrics.items():
        if name.startswith(("reward/", "format/", "workflow/")):
            print(f"  {name:40} {value:.4f}")
    print(f"\nteachers decided sensibly with probability {SENSE}")


if __name__ == "__main__":
    main()
