"""Ctrl-C before the first step: one sentence, the signal's exit code, and no directory of a run that never began."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from ajet.config.cli.ending import ending_signals, held_back
from ajet.config.cli.process import interrupt
from ajet.errors import UserInterrupt
from ajet.rollout.__main__ import main as rollout
from ajet.train.__main__ import main as train

CODE = """
import signal
from pathlib import Path
from ajet.workflows.signals.workflow import Signals
{at_import}

class Engine:
    def __init__(self, config):
        {at_start}
        signal.raise_signal(signal.{signal})
    async def generate(self, request): ...
    def update_weights(self, weights, policy_version): ...
    def close(self): ...
"""
RUN = ["workflow=custom", "workflow.entry=mine.py->Signals", "trainable_targets=[speaker]", "engine=mine.py->Engine"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name: str = "SIGINT", *, at_import: str = "", at_start: str = "pass") -> None:
    Path("mine.py").write_text(CODE.format(signal=name, at_import=at_import, at_start=at_start))


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_run_that_is_interrupted_while_it_loads_leaves_nothing(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(name)
    assert train([*RUN, "hydra.run.dir=run"]) == 128 + signal.Signals[name]
    assert capsys.readouterr().err == "error: interrupted before the first step; nothing was trained\n"
    assert not (folder / "run").exists()


def test_so_does_one_that_is_interrupted_while_it_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    write(at_import="signal.raise_signal(signal.SIGINT)")
    assert train([*RUN, "hydra.run.dir=run"]) == 130
    assert capsys.readouterr().err == "error: interrupted before the first step; nothing was trained\n"
    assert not Path("run").exists()


def test_so_does_play(capsys: pytest.CaptureFixture[str]) -> None:
    write()
    assert rollout([*RUN, "hydra.run.dir=run"]) == 130
    assert capsys.readouterr().err == "error: interrupted before the first episode; nothing was played\n"
    assert not Path("run").exists()


def test_what_was_there_before_or_is_more_than_a_beginning_stays(folder: Path) -> None:
    write()
    (folder / "mine").mkdir()
    assert train([*RUN, "run_dir=mine"]) == 130
    assert (folder / "mine" / "config.yaml").is_file()
    write(at_start='Path("made/results.txt").touch()')
    assert train([*RUN, "run_dir=made"]) == 130
    assert (folder / "made" / "config.yaml").is_file()


def test_a_signal_during_an_import_is_heard_after_it_and_a_second_one_at_once() -> None:
    done = []
    with ending_signals(interrupt):
        with pytest.raises(UserInterrupt), held_back():
            signal.raise_signal(signal.SIGINT)
            done.append("imported")
        with pytest.raises(UserInterrupt), held_back():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            done.append("imported, too")
    assert done == ["imported"]
