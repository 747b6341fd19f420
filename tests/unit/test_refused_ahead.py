"""Code of the user's that cannot work is refused before an engine loads, whatever command asks for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ajet.config.cli.entry import run_entry
from ajet.evaluate.__main__ import evaluate
from ajet.evaluate.__main__ import load as load_evaluation
from ajet.rollout.__main__ import load as load_play
from ajet.rollout.__main__ import play
from ajet.train.__main__ import load as load_training
from ajet.train.__main__ import train

CODE = """
from pathlib import Path

number = 3

def judged(task, output):
    return 1.0

class Broken:
    def __init__(self, config=None):
        raise FileNotFoundError("no such table")
    async def chat(self, request): ...
    def compute_reward(self, task, output): ...
    def log(self, step, metrics, groups=()): ...
    def close(self): ...

class Sided(Broken):
    def __init__(self, config, *, target_tag):
        {"speaker": 1}[target_tag]

class Named(Broken):
    def __init__(self, config, *, agent_name):
        raise FileNotFoundError("no such table")

class Engine:
    def __init__(self, config):
        Path(__file__).with_name("loaded").touch()
        raise ValueError("the engine was loaded")
    async def generate(self, request): ...
    def update_weights(self, weights, policy_version): ...
    def close(self): ...
"""
RUN = ["workflow=signals", "trainable_targets=[speaker]", "engine=mine.py->Engine", "hydra.run.dir=run"]
TRAIN = [*RUN, "logger=quiet"]
PLAY = [*RUN, "num_episodes=1"]
NOT_CALLABLE = "mine.py->number is neither a function nor a class; of these there is Path, judged, Broken, Sided, Named"
RAISES = "mine.py->Broken: FileNotFoundError: no such table ("
COMPONENTS = [
    (["workflow.env=mine.py->number"], f"workflow.env={NOT_CALLABLE}"),
    (["judge=python", "judge.entry=mine.py->number"], f"judge.entry={NOT_CALLABLE}"),
    (["judge=python", "judge.entry=mine.py->Broken"], f"judge.entry={RAISES}"),
    (["judge=mine.py->Broken"], f"judge={RAISES}"),
    (["opponent=mine.py->Broken"], f"opponent={RAISES}"),
    (["opponent=mine.py->Sided"], "opponent=mine.py->Sided: KeyError: 'listener' ("),
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(CODE)
    return tmp_path


def said(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence, by the user's own words for the file; no engine was loaded for it."""
    assert not (folder / "loaded").exists()
    told = capsys.readouterr().err.strip().replace(f"{folder}/", "")
    assert "\n" not in told
    return told


@pytest.mark.parametrize(("chosen", "words"), [*COMPONENTS, (["logger.own=mine.py->Broken"], f"logger.own={RAISES}")])
def test_training_refuses_it(chosen: list[str], words: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_entry("train", load_training, train, [*TRAIN, *chosen]) == 2
    assert said(folder, capsys).startswith(f"error: {words}")


@pytest.mark.parametrize(("chosen", "words"), COMPONENTS)
def test_play_refuses_it_and_writes_no_configuration(
    chosen: list[str], words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_entry("play", load_play, play, [*PLAY, *chosen]) == 2
    assert said(folder, capsys).startswith(f"error: {words}")
    assert not (folder / "run" / "config.yaml").exists()


@pytest.mark.parametrize(("chosen", "words"), COMPONENTS)
def test_an_evaluation_refuses_it(
    chosen: list[str], words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a run whose file said something else when it was made."""
    mended = CODE.replace("raise FileNotFoundError", "print").replace("number = 3", "number = print")
    Path("mine.py").write_text(mended.replace('"speaker": 1', '"listener": 1'))
    assert run_entry("train", load_training, train, [*TRAIN, *chosen]) == 2
    assert (folder / "run" / "config.yaml").exists()
    (folder / "loaded").unlink()
    Path("mine.py").write_text(CODE)
    capsys.readouterr()
    asked = ["run=run", "checkpoint=start", "trust_code=true", "hydra.run.dir=evaluation"]
    assert run_entry("evaluate", load_evaluation, evaluate, asked) == 2
    assert said(folder, capsys).startswith(f"error: {words}")


def test_an_opponent_that_asks_for_its_agents_name_is_made_only_in_play(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_entry("train", load_training, train, [*TRAIN, "opponent=mine.py->Named"]) == 2
    assert "the engine was loaded" in capsys.readouterr().err and (folder / "loaded").exists()
