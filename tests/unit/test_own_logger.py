"""A logger of a user's own: its settings are checked before anything loads, and its failure does not lose the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ajet.config.cli.entry import run_entry
from ajet.config.compose import compose, load_training
from ajet.config.known_code import named_code
from ajet.config.logger import LoggerConfig, own_logger
from ajet.errors import ConfigError, LoggerError
from ajet.train.__main__ import train

CODE = """
from dataclasses import dataclass

from ajet.config.fields import ruled


@dataclass
class Settings:
    fails_at: int
    share: float = ruled(0.5, above=0, below=1)


class Mine:
    def __init__(self, config: Settings, *, run_dir, earlier) -> None:
        self.config, self.file = config, run_dir / "mine.txt"
        self.file.write_text("".join(f"{line['step']} " for line in earlier))

    def log(self, step, metrics, groups=()):
        if step == self.config.fails_at:
            raise SystemExit("no such tracker")
        self.file.write_text(f"{self.file.read_text()}{step} ")
        metrics.clear()

    def close(self):
        raise OSError("it is gone")


class Mute:
    def __init__(self, config: Settings): ...
    def log(self, step, metrics, groups=()): ...


class Curious(Mute):
    close = print
    def __init__(self, config: Settings, *, learning_rate): ...
"""
RUN = [
    *("workflow=signals", "trainable_targets=[speaker]", "engine=scripted", "total_steps=2", "eval=none"),
    *("algorithm.warmup_steps=0", "algorithm.num_minibatches=1", "checkpoint.every=0", "logger=quiet"),
    *("rollout.num_tasks=2", "rollout.group_size=2", "rollout.max_tokens=4", "hydra.run.dir=run"),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "loggers.py"
    path.write_text(CODE)
    return path


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("Absent", {}, "there is no 'Absent'"),
        ("Mute", {"fails_at": 1}, "Mute has no close; it needs log, close"),
        ("Curious", {"fails_at": 1}, "asks for learning_rate; after its configuration it may ask for run_config"),
        ("Mine", {}, "logger.own=FILE->Mine needs logger.own_args.fails_at"),
        ("Mine", {"fails_at": 1, "step": 2}, "logger.own_args.step: logger.own=FILE->Mine has no such setting"),
        ("Mine", {"fails_at": "often"}, "logger.own_args.fails_at: "),
        ("Mine", {"fails_at": 1, "share": 2.0}, "logger.own_args.share must be above 0 and below 1, not 2.0"),
        (None, {"fails_at": 1}, "logger.own_args.fails_at has no effect with logger.own=null"),
    ],
)
def test_what_is_wrong_with_it_is_one_sentence_that_names_it(
    name: str | None, settings: dict[str, Any], words: str, file: Path
) -> None:
    config = LoggerConfig(own=None if name is None else f"{file}->{name}", own_args=settings)
    with pytest.raises(ConfigError) as error:
        own_logger(config)
    assert words.replace("FILE", str(file)) in str(error.value) and "\n" not in str(error.value)


def test_it_takes_its_settings_from_the_command_line_and_is_code_of_training_alone(file: Path, tmp_path: Path) -> None:
    overrides = [f'logger.own="{file}->Mine"', "+logger.own_args.fails_at=7"]
    config = compose([*RUN[:2], *overrides], run_dir=tmp_path)
    made = own_logger(config.logger)
    assert made is not None and vars(made) == {"own": f"{file}->Mine", "fails_at": 7, "share": 0.5}
    assert f"logger.own={file}->Mine" in named_code(config)
    assert f"logger.own={file}->Mine" not in named_code(config, training=False)


def test_what_it_raises_names_it_and_its_line_and_close_only_warns(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = own_logger(LoggerConfig(own=f"{file}->Mine", own_args={"fails_at": 1}))
    assert config is not None
    logger = config.build(run_config=None, run_dir=tmp_path, earlier=[{"step": 5}])
    metrics = {"a": 1.0}
    logger.log(0, metrics)
    assert metrics == {"a": 1.0} and (tmp_path / "mine.txt").read_text() == "5 0 "
    with pytest.raises(LoggerError, match=rf"logger.own={file}->Mine: SystemExit: no such tracker \({file}:20\)"):
        logger.log(1, metrics)
    logger.close()
    assert f"warning: logger.own={file}->Mine: OSError: it is gone" in capsys.readouterr().err


def test_a_run_whose_logger_fails_keeps_its_state_and_is_resumed(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    own = ["logger.own=loggers.py->Mine", "logger.own_args.fails_at=0"]
    assert run_entry("train", load_training, train, [*RUN, *own]) == 1
    said = capsys.readouterr().err
    assert f"logger.own={file}->Mine: SystemExit: no such tracker ({file}:20); the state is saved, resume with" in said
    assert [path.name for path in (tmp_path / "run" / "checkpoints").glob("step_*")] == ["step_1"]
    assert run_entry("train", load_training, train, ["resume=run", "logger.own_args.fails_at=9"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1] and (tmp_path / "run" / "mine.txt").read_text() == "0 1 "
    assert run_entry("train", load_training, train, ["resume=run", "logger.own=null", "total_steps=3"]) == 0
    assert (tmp_path / "run" / "mine.txt").read_text() == "0 1 "
