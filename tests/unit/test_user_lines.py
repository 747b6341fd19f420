"""Whose line an exception is shown at: the user's, not ajet's before it nor a library's behind it."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from ajet.config.user_code.importing import load_object
from ajet.config.user_code.lines import one_line, user_traceback
from ajet.errors import ConfigError
from ajet.workflows.signals.game import speaker_prompt

HERE = str(Path(__file__))


def raised(program: object) -> BaseException:
    assert callable(program)
    with pytest.raises(BaseException) as caught:
        program()
    return caught.value


def reads_no_json() -> None:
    json.loads("{")


def wraps() -> None:
    try:
        reads_no_json()
    except ValueError as error:
        raise RuntimeError("no task") from error


async def in_a_group() -> None:
    async def fails() -> None:
        reads_no_json()

    async with asyncio.TaskGroup() as group:
        group.create_task(fails())


def test_the_line_is_the_users_though_a_library_raised() -> None:
    line = reads_no_json.__code__.co_firstlineno + 1
    assert one_line(raised(reads_no_json)).startswith("JSONDecodeError: ")
    assert one_line(raised(reads_no_json)).endswith(f"({HERE}:{line})")
    told = user_traceback(raised(reads_no_json))
    # The library's lines stay in between, for whoever wants to know why.
    assert "json/decoder.py" in told and told.endswith(f'at {HERE}:{line}: json.loads("{{")')


def test_causes_are_told_with_their_own_lines_first() -> None:
    told = user_traceback(raised(wraps))
    assert told.index("JSONDecodeError: ") < told.index("direct cause") < told.index("RuntimeError: no task")
    assert told.endswith('raise RuntimeError("no task") from error')


def test_what_a_task_group_collected_is_told_one_by_one() -> None:
    error = raised(lambda: asyncio.run(in_a_group()))
    told = user_traceback(error)
    assert "create_task" not in told and told.index("TaskGroup()") < told.index("JSONDecodeError")
    assert told.endswith('json.loads("{")') and one_line(error).startswith("JSONDecodeError")


def test_a_workflow_that_ships_with_ajet_has_lines_of_its_own() -> None:
    error = raised(lambda: speaker_prompt("star", (1,)))  # type: ignore[arg-type]
    assert "signals/game.py" in one_line(error)


def test_where_nobody_is_the_user_the_innermost_line_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        load_object("nothing", setting="here")
    error = caught.value
    assert error.__traceback__ is not None
    ajets = error.with_traceback(error.__traceback__.tb_next)
    here = "ajet/config/user_code/finding.py"
    assert here in one_line(ajets) and here in user_traceback(ajets)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import json\nclass W(json.Nothing): pass\n", r"AttributeError: .*\({file}:2\)"),
        ("import json\nWORD = json.loads('{{')\n", r"JSONDecodeError: .*\({file}:2\)"),
        ("import nowhere_to_be_found\n", r"ModuleNotFoundError: No module named .* \({file}:1\)"),
        ("\nclass W:\npass\n", r"IndentationError: .*line 3\)"),
    ],
)
def test_a_file_that_cannot_be_imported_is_told_with_the_line(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "breaks.py"
    file.write_text(text.replace("{{", "{"))
    for _ in range(2):  # a second try finds no half of a module
        with pytest.raises(ConfigError, match=f"workflow.entry={file}->W: {said.format(file=file)}"):
            load_object(f"{file}->W", setting="workflow.entry")


def test_modules_are_found_where_the_command_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "agents_of_mine").mkdir()
    (tmp_path / "agents_of_mine" / "__init__.py").write_text("")
    (tmp_path / "agents_of_mine" / "one.py").write_text("class W: pass\n")
    (tmp_path / "agents_of_mine" / "two.py").write_text("import nowhere_to_be_found\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [place for place in sys.path if place])  # as an installed command has it
    assert load_object("agents_of_mine.one->W", setting="here").__name__ == "W"
    with pytest.raises(ConfigError, match=r"there is no module agents_of_mine\.three"):
        load_object("agents_of_mine.three->W", setting="here")
    with pytest.raises(ConfigError, match="No module named 'nowhere_to_be_found'"):
        load_object("agents_of_mine.two->W", setting="here")
