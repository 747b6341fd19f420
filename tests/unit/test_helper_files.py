"""A user's helper files are part of the program: edited, they run anew, and what was recorded of them is another."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ajet.config.compose import compose
from ajet.config.known_code import named_code
from ajet.config.user_code.helpers import helper_files
from ajet.config.user_code.importing import load_object


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / f"{name.replace('__in__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_helpers_are_found_through_helpers_and_packages_and_nothing_else_is(tmp_path: Path) -> None:
    write(
        tmp_path,
        game="import json, one.two\nfrom three import x, gone\ndef f():\n    from four import y\nimport numpy",
        one__in____init__="",
        one__in__two="from . import five\nfrom .six import z",
        one__in__five="import game",
        one__in__six="import three",
        three="import unknown\nfrom os import path",
        four="syntax error",
        unused="",
    )
    found = {str(file.relative_to(tmp_path)) for file in helper_files(tmp_path / "game.py")}
    assert found == {"one/__init__.py", "one/two.py", "one/five.py", "one/six.py", "three.py", "four.py"}
    assert {file.name for file in helper_files(tmp_path / "one" / "six.py")} == {"three.py"}


@pytest.mark.parametrize("by_name", [False, True])
def test_an_edited_helper_runs_anew_for_all_that_import_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_name: bool
) -> None:
    stem = f"rules_{by_name}"
    monkeypatch.syspath_prepend(str(tmp_path))
    write(
        tmp_path,
        **{
            f"game_{stem}": f"from mid_{stem} import bonus\nclass Game:\n    bonus = bonus",
            f"judge_{stem}": f"import mid_{stem}\nclass Judge:\n    bonus = mid_{stem}.bonus",
            f"mid_{stem}": f"from deep_{stem} import bonus",
            f"deep_{stem}": "bonus = 1",
        },
    )

    def bonus(file: str, name: str) -> object:
        place = f"{file}_{stem}:{name}" if by_name else f"{tmp_path / f'{file}_{stem}.py'}->{name}"
        return load_object(place, setting="workflow.entry").bonus

    try:
        assert bonus("game", "Game") == bonus("judge", "Judge") == 1
        first = sys.modules[f"deep_{stem}"]
        assert bonus("game", "Game") == 1 and sys.modules[f"deep_{stem}"] is first, "unchanged files are not run again"
        write(tmp_path, **{f"deep_{stem}": "bonus = 2  "})
        assert bonus("game", "Game") == 2
        assert bonus("judge", "Judge") == 2, "although the first has asked for the helper since it was edited"
    finally:
        for name in [name for name in sys.modules if stem in name]:
            del sys.modules[name]


def test_a_run_that_is_resumed_is_held_to_its_helpers_too(tmp_path: Path) -> None:
    write(tmp_path, losses="from helper import plain", helper="def plain(tokens): ...")
    overrides = ["workflow=signals", "trainable_targets=[speaker]", f'algorithm.loss="{tmp_path / "losses.py"}->plain"']
    config = compose(overrides, run_dir=tmp_path)
    recorded = named_code(config)
    assert named_code(config) == recorded and len(recorded) == 1
    write(tmp_path, helper="def plain(tokens): return 2")
    assert named_code(config) != recorded
