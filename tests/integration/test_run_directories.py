"""Whole runs in directories that were killed, damaged, locked or on a disk that is full."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.measured import MEASURED

from ajet.assemble import build_trainer
from ajet.config.compose import compose
from ajet.config.saved import save
from ajet.errors import AjetError, EngineError, RunInterruptedError, TrainingError
from ajet.evaluate.__main__ import main as evaluate_main
from ajet.rollout.runtime import Interrupted
from ajet.tracking.console import Display
from ajet.tracking.files.checkpoints import damage, saved_steps
from ajet.tracking.files.lock import locked
from ajet.train.__main__ import main, train

TRAINING = [
    "workflow=signals",
    "trainable_targets=[speaker,listener]",
    "engine=transformers",
    "rollout.num_tasks=2",
    "rollout.group_size=4",
    "rollout.max_tokens=8",
    "total_steps=3",
    "checkpoint.every=1",
    "checkpoint.keep=9",
    "eval=none",
    "logger=quiet",
]


def metrics(run_dir: Path) -> list[dict[str, Any]]:
    """The run's lines, without what a clock says."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith(MEASURED)} for line in lines]


def weights(run_dir: Path) -> bytes:
    """Of the last checkpoint."""
    return (run_dir / "checkpoints" / "step_3" / "model" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    train(compose(TRAINING, run_dir=run_dir))
    return run_dir


def test_a_finished_run_keeps_a_tokenizer_a_card_and_no_lock(whole: Path) -> None:
    model = whole / "checkpoints" / "step_3" / "model"
    card = (model / "README.md").read_text()
    assert f"vllm serve {model}" in card and "after 3 training steps of signals" in card
    assert damage(whole / "tokenizer") is None
    modes = {path.stat().st_mode for path in (whole / "checkpoints" / "step_3").rglob("*") if path.is_file()}
    assert len(modes) == 1
    with locked(whole):
        pass


def test_a_run_whose_newest_checkpoint_is_damaged_resumes_from_the_one_before_and_ends_alike(
    whole: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    train(compose(TRAINING, run_dir=run))
    for step, name in ((3, "model/model.safetensors"), (2, "trainer.pt")):
        file = run / "checkpoints" / f"step_{step}" / name
        file.write_bytes(file.read_bytes()[:-100])
    (run / "checkpoints" / "step_77").mkdir()
    assert main([f"resume={run}"]) == 0
    said = capfd.readouterr().err
    assert "step_3: model/model.safetensors is not as it was saved; step_2: trainer.pt is" in said
    assert "step_1 is taken instead" in said
    assert metrics(run) == metrics(whole) and weights(run) == weights(whole)
    assert damage(run / "checkpoints" / "step_3") is None and (run / "checkpoints" / "step_77").is_dir()


def start_and_kill(run_dir: Path) -> None:
    """A run killed after its first step, before its first checkpoint."""
    command = [sys.executable, "-m", "ajet.train", *TRAINING, "checkpoint.every=0", "total_steps=10000"]
    process = subprocess.Popen([*command, f"run_dir={run_dir}"], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not (run_dir / "metrics.jsonl").exists() or not (run_dir / "metrics.jsonl").read_text():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=60)


def test_a_run_killed_before_its_first_checkpoint_begins_again_in_its_directory(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    start_and_kill(run)
    assert saved_steps(run) == [] and not (run / "summary.json").exists()
    left = (run / "metrics.jsonl").read_bytes()
    assert main([f"resume={run}", "total_steps=3"]) == 0
    assert metrics(run) == metrics(whole) and weights(run) == weights(whole)
    assert (run / "earlier_1" / "metrics.jsonl").read_bytes() == left
    again = tmp_path / "again"
    again.mkdir()
    for name in ("config.yaml", "metrics.jsonl", ".lock.json"):  # as the killed run left them
        (again / name).write_bytes((run / name).read_bytes())
    assert main([*TRAINING, f"run_dir={again}"]) == 0
    assert metrics(again) == metrics(whole) and weights(again) == weights(whole)
    assert (again / "earlier_1" / "metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("harm", "words"), [("seals", "step_3 has no checksums.json, "), ("all", "checkpoints are gone")]
)
def test_a_run_that_ended_and_has_no_checkpoint_left_is_not_begun_again(
    whole: Path, tmp_path: Path, harm: str, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    if harm == "all":
        shutil.rmtree(run / "checkpoints")
    else:
        for path in run.glob("checkpoints/*/checksums.json"):  # as runs were before there were any
            path.unlink()
    files = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and not path.name.startswith(".")}
    assert main([f"resume={run}", "total_steps=4", "trust_code=true"]) == 1
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert words in line and f"{run} holds no checkpoint that can be resumed: " in line
    assert {path: path.read_bytes() for path in files} == files
    assert main([*TRAINING, f"run_dir={run}"]) == 2 and {path: path.read_bytes() for path in files} == files


class DeadEngine:
    """Takes no weights."""

    def update_weights(self, weights: Iterable[tuple[str, torch.Tensor]], policy_version: int) -> None:
        raise EngineError("the engine died")


def test_a_step_after_which_the_engine_died_is_logged(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    config = compose(TRAINING, run_dir=run)
    save(config, run / "config.yaml")
    trainer = build_trainer(config)
    trainer.engine = DeadEngine()  # type: ignore[assignment]
    with pytest.raises(TrainingError, match="the engine died; the state is saved, resume with"):
        trainer.run()
    assert metrics(run) == metrics(whole)[:1]
    assert main([f"resume={run}", "trust_code=true"]) == 0
    assert metrics(run) == metrics(whole) and weights(run) == weights(whole)


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("engine", "the engine died; {unsaved}; nothing is saved yet, resume with"),
        ("engine and log", "the engine died; {log} cannot be written: the disk is full; nothing is saved yet, resume"),
        ("ctrl-c", "interrupted after step 1; {unsaved}; nothing is saved yet, resume with"),
        ("not finite", "not finite in 3 training steps in a row, .*; {unsaved}; no state was saved yet: look at"),
    ],
)
def test_a_disk_that_refuses_the_state_does_not_hide_why_the_run_ended(end: str, said: str, tmp_path: Path) -> None:
    if "log" in end:
        (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    trainer = build_trainer(compose(TRAINING, run_dir=tmp_path))
    (tmp_path / "checkpoints").write_text("in the way")

    class Ending(DeadEngine):
        def update_weights(self, weights: Iterable[tuple[str, torch.Tensor]], policy_version: int) -> None:
            if end == "ctrl-c":
                raise Interrupted(signal.SIGINT)
            if end != "not finite":
                super().update_weights(weights, policy_version)
            trainer.num_skipped_in_a_row = 3

    trainer.engine = Ending()  # type: ignore[assignment]
    unsaved = rf"the state could not be saved \({tmp_path}/checkpoints/step_1 cannot be written: .*\)"
    with pytest.raises(AjetError, match=said.format(unsaved=unsaved, log=tmp_path / "metrics.jsonl")):
        trainer.run()


def test_a_run_interrupted_behind_its_first_evaluation_logs_it_once_it_is_resumed(tmp_path: Path) -> None:
    class Interrupting(Display):
        def phase(self, name: str, num_items: int = 0) -> None:
            if name == "rollout":
                raise Interrupted(signal.SIGTERM)

    whole, run = tmp_path / "whole", tmp_path / "run"
    asked = [*TRAINING, "eval.first=true", "eval.num_tasks=2", "total_steps=1", "algorithm.warmup_steps=0"]
    train(compose(asked, run_dir=whole))
    run.mkdir()
    config = compose(asked, run_dir=run)
    save(config, run / "config.yaml")
    trainer = build_trainer(config)
    trainer.play.display = Interrupting()
    with pytest.raises(RunInterruptedError, match="interrupted after step 0; the state is saved"):
        trainer.run()
    assert main([f"resume={run}", "trust_code=true"]) == 0
    assert "eval/reward/speaker/mean" in metrics(run)[0] and metrics(run) == metrics(whole)


def test_a_second_process_is_told_who_works_there(whole: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with locked(whole):
        assert main([f"resume={whole}", "total_steps=4"]) == 1
    assert f"{whole} is in use by process {os.getpid()} on " in capfd.readouterr().err


def test_a_step_that_the_disk_refused_to_log_is_logged_on_resume(
    whole: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.jsonl").symlink_to("/dev/full")
    assert main([*TRAINING, f"run_dir={run}"]) == 1
    said = capfd.readouterr().err
    assert (
        f"{run / 'metrics.jsonl'} cannot be written: the disk is full; the state after step 1 is saved, resume" in said
    )
    (run / "metrics.jsonl").unlink()
    killed = tmp_path / "killed"  # by the first resume, behind the line and before the next checkpoint
    shutil.copytree(run, killed)
    (killed / "metrics.jsonl").write_text((whole / "metrics.jsonl").read_text().splitlines(keepends=True)[0])
    for resumed in (run, killed):
        assert main([f"resume={resumed}"]) == 0
        assert metrics(resumed) == metrics(whole) and weights(resumed) == weights(whole)


def test_a_damaged_checkpoint_is_not_evaluated(whole: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    for step in (1, 2, 3):
        weights = run / "checkpoints" / f"step_{step}" / "model" / "model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-2] ^= 0x40  # one number among two million
        weights.write_bytes(content)
    for asked, words in (("null", "holds no sound checkpoint (step_3: "), ("2", "step_2 is damaged: ")):
        assert evaluate_main([f"run={run}", f"checkpoint={asked}", "num_tasks=2", "console=none"]) == 1
        assert words in capfd.readouterr().err
    assert not list(run.glob("evaluations/*/evaluation.json"))
