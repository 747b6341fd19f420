"""Sweeps with the launchers and the search that plugins bring, and a real one that is killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.measured import MEASURED
from tests.sweep_entry import act, command, played, states

from ajet.config.sweeps.records import read_jobs

TRAINING = [
    *("workflow=signals", "debug=fast", "rollout.max_tokens=4", "total_steps=4"),
    *("checkpoint.every=1", "sweep=each", "trainable_targets=[speaker,listener]"),
]


@pytest.mark.parametrize("launcher", ["joblib", "submitit"])
def test_launchers_run_jobs_in_processes_of_their_own(launcher: str, tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "fail_2").touch()
    done = act(tmp_path, *command(checkpoint, f"launcher={launcher}", "seed=1,2,3"))
    assert done.returncode == 1
    assert states(tmp_path) == ["finished", "failed", "finished"]
    assert "job 1 (seed=2): failed: no engine" in done.stdout
    assert sorted(played(tmp_path)) == ["1 fresh 1", "2 fresh 1", "3 fresh 1"]


@pytest.mark.slow  # submitit waits a while for what a killed process did not write
@pytest.mark.parametrize("launcher", ["joblib", "submitit"])
def test_a_killed_worker_is_an_unfinished_job_and_the_sweep_goes_on_with_another_launcher(
    launcher: str, tmp_path: Path, checkpoint: Path
) -> None:
    (tmp_path / "kill_1").touch()
    done = act(tmp_path, *command(checkpoint, f"launcher={launcher}", "seed=1,2"))
    assert done.returncode == 1
    assert states(tmp_path)[0] == "unfinished"
    assert f"resume, failed jobs included, with: python -m ajet.train resume={tmp_path}/sweep" in done.stdout
    (tmp_path / "kill_1").unlink()
    assert act(tmp_path, "resume=sweep", "launcher=basic").returncode == 0
    assert states(tmp_path) == ["finished", "finished"]


@pytest.mark.slow
def test_optuna_finds_the_best_value_by_the_score_that_a_job_returns(tmp_path: Path, checkpoint: Path) -> None:
    search = ["sweep=optuna", "algorithm.learning_rate=tag(log,interval(1e-4,1e-2))", "hydra.sweeper.n_trials=8"]
    done = act(tmp_path, *command(checkpoint, *search))
    assert done.returncode == 0, done.stderr
    jobs = read_jobs(tmp_path / "sweep")
    rates = [float(job.choices["algorithm.learning_rate"]) for job in jobs]
    assert [job.score for job in jobs] == pytest.approx([-((rate * 1e3 - 1) ** 2) for rate in rates])
    found = yaml.safe_load((tmp_path / "sweep" / "optimization_results.yaml").read_text())
    assert found["best_value"] == max(job.score for job in jobs if job.score is not None)
    assert found["best_params"]["algorithm.learning_rate"] == min(rates, key=lambda rate: abs(rate - 1e-3))


@pytest.mark.slow
def test_a_search_that_was_killed_comes_to_the_same_jobs(tmp_path: Path, checkpoint: Path) -> None:
    search = ["sweep=optuna", "seed=range(1,10000)", "hydra.sweeper.n_trials=6"]
    act(tmp_path, *command(checkpoint, *search))
    seeds = [job.choices["seed"] for job in read_jobs(tmp_path / "sweep")]
    (again := tmp_path / "again").mkdir()
    (again / f"fail_{seeds[1]}").touch()
    (again / f"kill_{seeds[3]}").touch()
    act(again, *command(checkpoint, *search))
    assert states(again) == ["finished", "failed", "finished", "unfinished"]
    (again / f"kill_{seeds[3]}").unlink()
    act(again, "resume=sweep")
    assert states(again) == ["finished", "failed", "finished", "finished", "finished", "finished"]
    assert [line.split()[0] for line in played(again)][:4] == seeds[:4]


def test_a_search_that_cannot_be_repeated_is_not_gone_on_with(tmp_path: Path, checkpoint: Path) -> None:
    search = ["sweep=optuna", "seed=range(1,100)", "hydra.sweeper.n_trials=2", "hydra.sweeper.sampler.seed=null"]
    act(tmp_path, *command(checkpoint, *search))
    done = act(tmp_path, "resume=sweep")
    assert "a search without hydra.sweeper.sampler.seed cannot be repeated" in done.stderr


def test_a_search_without_a_score_is_refused(tmp_path: Path, checkpoint: Path) -> None:
    done = act(tmp_path, *command(checkpoint, "sweep=optuna", "seed=range(1,9)", "eval.last=false"))
    assert (done.returncode, done.stderr) == (
        2,
        "error: eval.last=false leaves sweep=optuna no score to look for: drop it\n",
    )


def metrics(run: Path) -> list[dict[str, Any]]:
    """The run's lines, without what a clock says."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith(MEASURED)} for line in lines]


@pytest.mark.slow
def test_a_training_sweep_killed_in_its_second_job_ends_like_one_that_was_not(tmp_path: Path) -> None:
    start = [sys.executable, "-m", "ajet.train", "-m", *TRAINING]
    go_on = [sys.executable, "-m", "ajet.train", "resume=killed"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([*start, "hydra.sweep.dir=whole"], cwd=tmp_path, check=True, capture_output=True)
    process = subprocess.Popen([*start, "hydra.sweep.dir=killed"], cwd=tmp_path, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (killed / "1" / "checkpoints" / "step_1").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=60)
    assert [job.state for job in read_jobs(killed)] == ["finished", "unfinished"]
    assert subprocess.run(go_on, cwd=tmp_path, capture_output=True).returncode == 0
    assert [(job.state, job.attempts) for job in read_jobs(killed)] == [("finished", 1), ("finished", 2)]
    for number in ("0", "1"):
        assert metrics(killed / number) == metrics(whole / number)
    assert [job.score for job in read_jobs(killed)] == [job.score for job in read_jobs(whole)]
