"""Entries, by which settings name code of the user's: four forms, and one refusal of what is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from ajet.config.compose import compose
from ajet.config.user_code.importing import load_object
from ajet.errors import ConfigError
from ajet.workflows.loading import load_workflow

WORKFLOW = """
from ajet import Workflow

class Mine(Workflow):
    target_tags = ["a"]
    async def execute(self, workflow_task, tuner): ...
"""
FORMS = ("{name}:Mine", "{name}->Mine", "{name}.Mine", "{name}.py->Mine")


@pytest.fixture
def name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "entries_of_mine.py").write_text(WORKFLOW)
    monkeypatch.chdir(tmp_path)
    return "entries_of_mine"


def composed(entry: str, checkpoint: Path) -> str:
    settings = ["workflow=custom", f'workflow.entry="{entry}"', f"model.path={checkpoint}", "opponent=random"]
    return compose(settings, run_dir="out").workflow.entry


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_an_entry_names_a_workflow(form: str, name: str, checkpoint: Path) -> None:
    entry = composed(form.format(name=name), checkpoint)
    assert load_workflow(entry).__name__ == load_object(entry, setting="workflow.entry").__name__ == "Mine"


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("nowhere.py->Mine", "there is no file nowhere.py"),
        ("nowhere.mine:Mine", "there is no module nowhere.mine"),
        ("entries_of_mine:Other", "there is no 'Other'; there is Workflow, Mine"),
        ("entries", "names nothing that can be loaded: give "),
    ],
)
def test_what_an_entry_lacks_is_said_in_the_same_words_before_and_while_it_is_loaded(
    entry: str, sentence: str, name: str, checkpoint: Path
) -> None:
    with pytest.raises(ConfigError) as before:
        composed(entry, checkpoint)
    with pytest.raises(ConfigError) as loading:
        load_object(entry, setting="workflow.entry")
    assert all(str(raised.value).startswith(f"workflow.entry={entry}") for raised in (before, loading))
    assert all(sentence in str(raised.value) for raised in (before, loading))
