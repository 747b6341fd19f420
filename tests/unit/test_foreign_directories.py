"""Run and sweep directories of others: nothing that they name is run, read from the environment or sent unasked."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ajet.config.cli.entry import run_entry
from ajet.config.compose import compose, load_training
from ajet.config.known_code import named_code, record_code, require_known_code
from ajet.config.root import Config
from ajet.config.saved import load, save
from ajet.config.sweeps.records import SweepPlan, read_job, read_plan, write_plan
from ajet.config.user_code.cells import KeptSource, source_from_cells
from ajet.config.user_code.importing import load_object
from ajet.errors import AjetError, ConfigError, RunDirectoryError
from ajet.evaluate.__main__ import main as evaluate_main
from ajet.tracking.files.signing import is_own, signature
from ajet.train.__main__ import main as train_main

SIGNALS = ["workflow=signals", "trainable_targets=[speaker]"]
PROGRAM = """
from pathlib import Path
from ajet import Workflow
Path(__file__).with_suffix(".ran").touch()
class Game(Workflow):
    async def execute(self, workflow_task, tuner):
        raise NotImplementedError
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "game.py"
    path.write_text(PROGRAM)
    return path


def own_run(folder: Path, *overrides: str) -> Config:
    """A run directory that this user made, as far as configuration goes."""
    folder.mkdir()
    config = compose(overrides, run_dir=folder)
    record_code(config, folder)
    save(config, folder / "config.yaml")
    return config


def resume(run: Path, *more: str) -> int:
    return run_entry("train", load_training, lambda config: None, [f"resume={run}", *more])


def asked(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and line.endswith("look at it, and allow it with trust_code=true")
    return line


def test_code_of_a_run_is_run_again_only_as_it_was_recorded_or_with_leave(
    tmp_path: Path, program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, ran = tmp_path / "run", program.with_suffix(".ran")
    own_run(run, "workflow=custom", f'workflow.entry="{program}->Game"')
    assert resume(run) == 0
    program.write_text(PROGRAM + "# another\n")
    assert train_main([f"resume={run}"]) == 2 and evaluate_main([f"run={run}"]) == 2
    for line in capsys.readouterr().err.splitlines():
        assert (
            f"run={run} would use" in line.replace("resume=", "run=") and "has changed since the run was made" in line
        )
    assert not ran.exists()
    assert resume(run, "trust_code=true") == 0


def test_code_that_is_not_to_be_found_is_not_said_to_have_changed(
    tmp_path: Path, program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    own_run(run, "workflow=custom", f'workflow.entry="{program}->Game"')
    program.unlink()
    assert resume(run) == 2
    said = capsys.readouterr().err
    assert "there is no such file or module here" in said and "trust_code" not in said


def test_another_users_record_does_not_count_even_if_its_hashes_are_right(
    tmp_path: Path, program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, ran = tmp_path / "run", program.with_suffix(".ran")
    config = own_run(run, "workflow=custom", f'workflow.entry="{program}->Game"')
    record = json.loads((run / "code.json").read_text())
    assert record["code"] == named_code(config) and is_own(record["code"], record["signature"])
    for forged in ("0" * 64, None, 7):
        (run / "code.json").write_text(json.dumps({**record, "signature": forged}))
        assert train_main([f"resume={run}"]) == 2
        assert f"workflow.entry={program}->Game, which is not recorded as yours" in asked(capsys)
    (run / "code.json").write_text("\x00")
    assert evaluate_main([f"run={run}"]) == 2 and evaluate_main([f"runs=[{run},base]"]) == 2
    assert not ran.exists()
    # Its own leave does not count either.
    content = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**content, "trust_code": True}))
    assert resume(run) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"workflow": {"entry": "evil.package:Game"}},
        {"workflow": {"env": "evil:make"}},
        {"judge": {"name": "python", "entry": "os:system"}},
        {"data": {"reader": "python", "path": "evil.tasks:make"}},
        {"judge": {"name": "llm", "base_url": "http://evil.example", "model": "m", "api_key_env": "HOME"}},
        {"opponent": {"name": "openai", "base_url": "http://evil.example", "model": "m", "api_key_env": "HOME"}},
    ],
)
def test_whatever_another_users_config_names_is_asked_about_and_not_looked_for_by_running_it(
    tmp_path: Path,
    changes: dict[str, dict[str, str]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "__init__.py").write_text("raise SystemExit('ran')")
    (tmp_path / "evil" / "tasks.py").write_text("")
    run = tmp_path / "run"
    own_run(run, *SIGNALS)
    assert resume(run) == 0
    content = yaml.safe_load((run / "config.yaml").read_text())
    for group, settings in changes.items():
        content[group] |= settings
    (run / "config.yaml").write_text(yaml.safe_dump(content))
    assert resume(run) == 2
    assert f"resume={run} would use {next(iter(changes))}." in asked(capsys)


@pytest.mark.parametrize("place", ["seed", "model", "own"])
def test_interpolations_in_another_users_config_are_texts(tmp_path: Path, place: str) -> None:
    run = tmp_path / "run"
    own_run(run, *SIGNALS)
    content = yaml.safe_load((run / "config.yaml").read_text())
    if place == "seed":
        content["seed"] = "${oc.env:UID_OF_NOBODY,7}"
        (run / "config.yaml").write_text(yaml.safe_dump(content))
        with pytest.raises(ConfigError, match=r"config.yaml is damaged, or of another version of ajet: seed must be"):
            load(run)
        return
    if place == "model":
        content["model"]["path"] = "${oc.env:HOME}"
    else:
        content["own"] = {"x": ["${oc.env:HOME}", {"y": "${oc.decode:${oc.env:HOME}}"}]}
    (run / "config.yaml").write_text(yaml.safe_dump(content))
    config = load(run)
    read = config.model.path if place == "model" else config.own["x"][0]
    assert read == "${oc.env:HOME}"
    again = tmp_path / "again"
    again.mkdir()
    save(config, again / "config.yaml")
    assert load(again) == replace(config, run_dir=str(again))


def test_a_notebooks_class_moves_with_its_run_directory_and_is_run_as_it_was_alone(tmp_path: Path) -> None:
    run, moved = tmp_path / "run", tmp_path / "elsewhere"
    run.mkdir()
    text = source_from_cells([PROGRAM], "Game", frozenset()).text
    entry = KeptSource(text=text, name="Game").write(run)
    config = compose(["workflow=custom", f'workflow.entry="{entry}"', "trainable_targets=[a]"], run_dir=run)
    save(config, run / "config.yaml")
    record_code(config, run)
    run.rename(moved)
    assert load(moved).workflow.entry == f"{moved}/workflow.py->Game"
    require_known_code(load(moved), moved, setting="run", trusted=False, own_opponent=True)
    load_object(load(moved).workflow.entry, setting="workflow.entry")
    assert str(moved) not in sys.path  # nothing is imported that lies beside it
    (moved / "workflow.py").write_text(f"{text}\nn = 1\n")
    with pytest.raises(ConfigError, match=r"workflow\.entry=.*elsewhere/workflow\.py->Game, which is not recorded as"):
        require_known_code(load(moved), moved, setting="run", trusted=False, own_opponent=True)


def test_a_notebooks_class_that_is_run_where_its_helper_is_not_says_which(tmp_path: Path) -> None:
    cells = ["import words_of_my_game", f"{PROGRAM}\n    words = words_of_my_game.WORDS"]
    entry = KeptSource(text=source_from_cells(cells, "Game", frozenset()).text, name="Game").write(tmp_path)
    with pytest.raises(ConfigError, match=r"written in a notebook and imports words_of_my_game.*PYTHONPATH"):
        load_object(entry, setting="workflow.entry")


@pytest.fixture(scope="module")
def composed_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    """A config and its folder, for a hundred texts: composing takes longer than saving and loading."""
    folder = tmp_path_factory.mktemp("texts")
    return compose(SIGNALS, run_dir=folder), folder


@given(text=st.text(alphabet=st.sampled_from("\\${}:.a1 '\"\n#!&*-?é"), max_size=12))
def test_any_text_comes_back_from_a_saved_config_as_it_was(text: str, composed_once: tuple[Config, Path]) -> None:
    config, folder = composed_once
    config.own = {"text": text, "list": [text], "more": {"text": text}}
    save(config, folder / "config.yaml")
    loaded = load(folder)
    assert asdict(loaded) == asdict(config)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "seed: x", "seed: 1\nworkflow: 3", "workflow: {entry: [1]}", "nonsense: 1", "\x00", "a: &a [*a]", "- "],
)
def test_a_config_of_the_wrong_kind_is_one_sentence(
    tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(AjetError, match=r"config.yaml is damaged") as refused:
        load(tmp_path)
    expected = 2 if isinstance(refused.value, ConfigError) else 1
    assert resume(tmp_path) == expected and evaluate_main([f"run={tmp_path}"]) == expected
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all(line.startswith("error: ") and "config.yaml is damaged" in line for line in lines)


def test_a_sweep_goes_on_unasked_only_for_the_user_who_started_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = SweepPlan(
        config_name="train", directory=os.getcwd(), arguments=[*SIGNALS, "seed=1,2"], axes=["seed"], jobs=[]
    )
    write_plan(tmp_path, plan)
    assert read_plan(tmp_path).is_own
    content = json.loads((tmp_path / "sweep.json").read_text())
    (tmp_path / "sweep.json").write_text(json.dumps({**content, "arguments": ["hydra.sweeper._target_=evil.Sweeper"]}))
    assert resume(tmp_path) == 2
    assert "would run python -m ajet.train hydra.sweeper._target_=evil.Sweeper, and it is not" in asked(capsys)
    for damage in ({"jobs": 3}, {"arguments": [1]}, {"more": 1}, {"axes": None}):
        (tmp_path / "sweep.json").write_text(json.dumps({**content, **damage}))
        with pytest.raises(RunDirectoryError, match=r"sweep.json is damaged"):
            read_plan(tmp_path)
    for job in ("{}", "[]", '{"number": "1", "overrides": [], "choices": {}, "state": "finished"}'):
        (tmp_path / "job.json").write_text(job)
        with pytest.raises(RunDirectoryError, match=r"job.json is damaged"):
            read_job(tmp_path)


def test_a_signature_is_this_users_and_of_this_content() -> None:
    signed = signature({"a": "1"})
    assert is_own({"a": "1"}, signed) and not is_own({"a": "2"}, signed) and not is_own({"a": "1"}, None)
