"""The matrix on real runs: policies take turns in one engine, and the runs stay as they were."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ajet.evaluate.__main__ import main as evaluate
from ajet.train.__main__ import main as train

SMALL = [
    "workflow=signals",
    "trainable_targets=[listener]",
    "engine=transformers",
    "rollout.num_tasks=4",
    "rollout.group_size=4",
    "rollout.max_tokens=8",
    "eval=none",
    "checkpoint.every=0",
    "total_steps=1",
    "algorithm.warmup_steps=0",
    "logger.console=none",
    "logger.wandb.mode=disabled",
]


@pytest.mark.slow
def test_two_runs_and_their_starting_model_meet_three_opponents(tmp_path: Path) -> None:
    # The second run's learning rate breaks its policy on purpose, so that the policies differ for sure.
    for name, rate in (("a", "1e-4"), ("b", "1.0")):
        assert train([*SMALL, f"run_dir={tmp_path / name}", f"algorithm.learning_rate={rate}"]) == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    out = tmp_path / "matrix"
    runs = f"runs=[{tmp_path / 'a'},{tmp_path / 'b'},base]"
    asked = [
        runs,
        "opponent=scripted,random,frozen",
        "num_seeds=12",
        "repeats=2",
        "console=none",
        f"hydra.run.dir={out}",
    ]
    assert evaluate(asked) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    cells = json.loads((out / "evaluation.json").read_text())["cells"]
    places = [(cell["name"], cell["opponent"]) for cell in cells]
    assert places == [(name, who) for who in ("scripted", "random", "frozen") for name in ("base", "a", "b")]
    scores = {(cell["name"], cell["opponent"]): cell["evaluation"]["scores"] for cell in cells}
    assert all(len(by_task) == 12 for by_task in scores.values())
    assert cells[0]["means"]["score"]["mean"] > 0 and scores["b", "scripted"] != scores["base", "scripted"]
    assert all(cell["means"]["pass@2"]["mean"] >= cell["means"]["score"]["mean"] for cell in cells)
    assert all((cell["p_holm"] is None) == (cell["name"] == "base") for cell in cells)
    assert {len(cell["comparisons"]) for cell in cells if cell["name"] != "base"} == {5}  # score, tag, seat, 2 of k
    assert (out / "trajectories" / "random" / "5-b" / "eval_000000.parquet").is_file()
    # Whoever played before it: the base that followed the broken policy is the one that followed nobody.
    alone = tmp_path / "alone"
    fewer = f"runs=[{tmp_path / 'a'},base]"
    assert (
        evaluate([fewer, "opponent=frozen", "num_seeds=12", "repeats=2", "console=none", f"hydra.run.dir={alone}"]) == 0
    )
    first = json.loads((alone / "evaluation.json").read_text())["cells"][0]
    assert first["evaluation"]["scores"] == scores["base", "frozen"]
