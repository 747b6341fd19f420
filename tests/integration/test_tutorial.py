"""A program of the tutorial's shape, brought as it is: games to their end, every role heard, a step for either side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ajet.assemble import build_trainer
from ajet.config.compose import compose
from ajet.config.saved import save

HERE = Path(__file__).parent
ROLES = {"werewolf", "villager", "seer", "witch", "hunter"}


def trained(run_dir: Path, workflow: str, *overrides: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The metrics and the calls of one training step."""
    asked = [
        "workflow=custom",
        f'workflow.entry="{HERE / "tutorial_werewolves.py"}->{workflow}"',
        "opponent=random",
        "engine=scripted",
        "total_steps=1",
        "algorithm.warmup_steps=0",
        "rollout.num_tasks=1",
        "rollout.group_size=2",
        "rollout.max_tokens=8",
        # So that games which all end alike are trained on, too.
        "algorithm.entropy_coef=0.001",
        "rollout.timeout_s=600",
        "eval=none",
        "logger=quiet",
        *overrides,
    ]
    run_dir.mkdir()
    config = compose(asked, run_dir=run_dir)
    save(config, run_dir / "config.yaml")
    build_trainer(config).run()
    first = json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[0])
    return first, pq.read_table(run_dir / "trajectories" / "train_000000.parquet").to_pylist()


@pytest.mark.slow
@pytest.mark.parametrize("targets", [["werewolf"], ["seer", "witch"]])
def test_whole_games_are_played_with_every_role_and_trained_on(tmp_path: Path, targets: list[str]) -> None:
    line, calls = trained(tmp_path / "run", "NineAtATable", f"trainable_targets=[{','.join(targets)}]")
    assert line["episode/ok"] == 2.0
    rewards = {(call["task"], call["repeat"]): call["reward"] for call in calls if call["trained"]}
    # A game that was not played to its end has another reward than won or lost.
    assert len(rewards) == 2 and set(rewards.values()) <= {0.0, 1.0}
    for game in rewards:
        heard = {call["tag"]: call["trained"] for call in calls if (call["task"], call["repeat"]) == game}
        assert set(heard) == ROLES
        assert {tag for tag, is_trained in heard.items() if is_trained} == set(targets)
    assert line["policy/optimizer_steps"] == 1 and line["tokens/trained"] > 0


@pytest.mark.slow
def test_agents_without_names_and_tags_are_all_trained(tmp_path: Path) -> None:
    line, calls = trained(tmp_path / "run", "SeveralWithoutNames", "opponent=workflow")
    assert line["episode/ok"] == 2.0 and {(call["tag"], call["trained"]) for call in calls} == {("agent", True)}
