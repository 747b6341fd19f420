"""A real entry point whose action stands in for training, for tests of sweeps.

The action leaves what a run leaves, and its score is minus the squared distance of the learning rate from 0.001, in
thousandths. Files beside it say which seeds misbehave, and how.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ajet.config.saved import load
from ajet.config.sweeps.records import read_jobs
from ajet.tracking.weights_and_biases import WandbConfig

ROOT = Path(__file__).resolve().parents[1]
SIGNALS = ["workflow=signals", "trainable_targets=[speaker]"]
ENTRY = """
import os, signal, sys
from pathlib import Path
from ajet.config.cli.entry import run_entry
from ajet.config.compose import load_training
from ajet.config.saved import save
from ajet.errors import EngineError, RunInterruptedError
from ajet.tracking.files.checkpoints import seal

def act(config):
    run = Path(config.run_dir)
    save(config, run / "config.yaml")
    with (run / "metrics.jsonl").open("a") as lines:
        lines.write("{}" + chr(10))
    with Path("played.txt").open("a") as played:
        num_lines = (run / "metrics.jsonl").read_text().count(chr(10))
        played.write(f"{config.seed} {'again' if config.resume else 'fresh'} {num_lines}{chr(10)}")
    if Path(f"checkpoint_{config.seed}").exists():
        (run / "checkpoints" / "step_1").mkdir(parents=True, exist_ok=True)
        seal(run / "checkpoints" / "step_1")
    if Path(f"kill_{config.seed}").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    if Path(f"terminate_{config.seed}").exists():
        os.kill(os.getpid(), signal.SIGTERM)
    if Path(f"exit_{config.seed}").exists():
        sys.exit(0)
    if Path(f"interrupt_{config.seed}").exists():
        raise RunInterruptedError("interrupted after step 1")
    if Path(f"fail_{config.seed}").exists():
        raise EngineError("no engine")
    if Path(f"crash_{config.seed}").exists():
        raise ZeroDivisionError("a bug")
    return -(config.algorithm.learning_rate * 1e3 - 1) ** 2

sys.exit(run_entry("train", load_training, act))
"""


def act(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the entry point above in a directory."""
    return subprocess.run(
        [sys.executable, "-c", ENTRY, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=120,
    )


def command(checkpoint: Path, *more: str) -> list[str]:
    return ["-m", *SIGNALS, f"model.path={checkpoint}", "hydra.sweep.dir=sweep", *more]


def played(cwd: Path) -> list[str]:
    """What the action wrote down: seed, fresh or again, and the lines of metrics.jsonl."""
    return (cwd / "played.txt").read_text().splitlines()


def load_saved(run: Path) -> WandbConfig:
    """The W&B settings that a job ran with."""
    return load(run).logger.wandb


def states(cwd: Path) -> list[str]:
    return [job.state for job in read_jobs(cwd / "sweep")]
