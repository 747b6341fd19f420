"""W&B that is away, off or was cut short never costs a run more than a warning."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.wandb_files import OfflineRun, read_offline_run

from ajet.errors import ConfigError
from ajet.tracking.weights_and_biases import INIT_TIMEOUT_S, WandbConfig

SOURCE = str(Path(__file__).resolve().parents[2] / "src")
LOGS = """
import json, sys, time
from pathlib import Path
run_dir, mode, first, earlier = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
import wandb
from ajet.tracking.weights_and_biases import WandbConfig, WandbLogger
started = time.monotonic()
logger = WandbLogger(WandbConfig(mode=mode), run_dir=run_dir, run_config={"seed": 1}, earlier=earlier)
print(time.monotonic() - started)
for step in (first, first + 1):
    logger.log(step, {"reward/seer/mean": step / 10})
logger.close()
"""
AS_ASSEMBLED = {"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}
"""What `ajet.assemble` sets."""
PARENT = """
import subprocess, sys, wandb
wandb.setup()  # starts W&B's service, which processes below this one share
sys.exit(subprocess.run([sys.executable, *sys.argv[1:]]).returncode)
"""


def own_environment() -> dict[str, str]:
    """This process's, without what the user or another test has told W&B."""
    return {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}


def log(
    run_dir: Path,
    mode: str,
    first: int,
    earlier: list[dict[str, float]],
    *,
    below: Sequence[str] = (),
    **environment: str,
) -> tuple[str, float]:
    """Log two steps in a process of its own; what it said on standard error, and the seconds that beginning took."""
    run_dir.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, *below, "-c", LOGS, str(run_dir), mode, str(first), json.dumps(earlier)],
        env={
            **own_environment(),
            "PYTHONPATH": SOURCE,
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_SILENT": "true",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    return done.stderr, float(done.stdout)


def offline_runs(run_dir: Path) -> list[OfflineRun]:
    return [read_offline_run(next(path.glob("*.wandb"))) for path in sorted(run_dir.glob("wandb/offline-run-*"))]


def curve(run: OfflineRun) -> list[tuple[int, float]]:
    return [(row["_step"], row["reward/seer/mean"]) for row in run.history]


@pytest.mark.parametrize(("answers", "below"), [("refuses", ()), ("is silent", ()), ("refuses", ("-c", PARENT))])
def test_a_server_that_cannot_be_reached_is_one_warning_and_an_offline_run(
    tmp_path: Path, answers: str, below: Sequence[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = 9 if answers == "refuses" else silent.getsockname()[1]
        away = {"WANDB_BASE_URL": f"http://127.0.0.1:{port}", "WANDB_API_KEY": "a" * 40}
        said, seconds = log(tmp_path / "run", "online", 0, [], below=below, **away)
    assert said.count("\n") == 1, said
    assert said.startswith("warning: W&B cannot be used online (") and said.endswith("; this run is logged offline\n")
    # 8 s where it was measured, the start of W&B's own service included; W&B itself would wait for 90 s.
    assert INIT_TIMEOUT_S == 6 and seconds < 80
    (run,) = offline_runs(tmp_path / "run")
    assert curve(run) == [(0, 0.0), (1, 0.1)]


def test_a_home_that_cannot_be_written_says_nothing(tmp_path: Path) -> None:
    """W&B's service would write its own log to standard error."""
    said, _ = log(tmp_path / "run", "offline", 0, [], HOME="/proc/home", XDG_CACHE_HOME="/proc/cache")
    assert said == ""
    (run,) = offline_runs(tmp_path / "run")
    assert curve(run) == [(0, 0.0), (1, 0.1)]


def test_steps_that_a_kill_kept_from_wandb_are_logged_again_under_the_same_run(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    log(run_dir, "offline", 0, [], WANDB_PROJECT="theirs", WANDB_NAME="mine")
    time.sleep(1.1)  # W&B names folders by the second
    log(run_dir, "offline", 3, [{"step": step, "reward/seer/mean": step / 10} for step in range(3)])
    first, again = offline_runs(run_dir)
    assert first.name == "mine" and again.name == f"{tmp_path.name}-run"
    assert curve(again) == [(0, 0.0), (1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]
    assert len({path.name.rpartition("-")[2] for path in run_dir.glob("wandb/offline-run-*")}) == 1


@pytest.mark.parametrize(
    ("environment", "mode"),
    [
        ({}, "offline"),
        ({"WANDB_API_KEY": "k"}, "online"),
        ({"WANDB_API_KEY": "k", "WANDB_MODE": "disabled"}, "disabled"),
        ({"WANDB_API_KEY": "k", "WANDB_MODE": "dryrun"}, "offline"),
        ({"WANDB_MODE": "online"}, "online"),
        ({"WANDB_API_KEY": "k", "WANDB_DISABLED": "true"}, "disabled"),
    ],
)
def test_wandbs_own_variables_choose_the_mode_where_the_setting_leaves_it_open(
    environment: dict[str, str], mode: str
) -> None:
    code = "from ajet.tracking.weights_and_biases import WandbConfig; print(WandbConfig().mode_in_use())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**own_environment(), "PYTHONPATH": SOURCE, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{mode}\n"
    assert WandbConfig(mode="offline").mode_in_use() == "offline"


@pytest.mark.parametrize("setting", [{"project": "p"}, {"group": "g"}, {"name": "n"}, {"sample_episodes": 0}])
def test_settings_of_wandb_are_refused_where_it_is_off(setting: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"logger.wandb.{next(iter(setting))} has no effect with"):
        WandbConfig(mode="disabled", **setting).check()  # type: ignore[arg-type]
    WandbConfig(mode="offline", **setting).check()  # type: ignore[arg-type]


def test_settings_of_wandb_that_the_environment_turns_off_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = WandbConfig(project="p", name="n")
    for name in os.environ.keys() - own_environment().keys():
        monkeypatch.delenv(name)
    assert wandb.disabled_by_environment() is None
    monkeypatch.setenv("WANDB_MODE", "disabled")
    wandb.check()  # a run directory's settings are no mistake of this command's
    words = "WANDB_MODE=disabled turns W&B off, so logger.wandb.project, logger.wandb.name has no effect"
    assert wandb.disabled_by_environment() == words
    assert (
        WandbConfig().disabled_by_environment() is None
        and WandbConfig(mode="online", name="n").disabled_by_environment() is None
    )
