"""What `ajet.evaluate` makes of several opponents, a user's own among them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.sentences import names

from ajet.config.cli.arguments import read
from ajet.evaluate.__main__ import main


@pytest.mark.parametrize("given", ["[my file.py->A,random]", '["my file.py->A",random]'])
def test_entries_in_a_list_need_no_quotes(given: str) -> None:
    assert read([f"opponents={given}"]).overrides == ['opponents=["my file.py->A",random]']


def test_an_own_opponent_among_several_is_looked_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run := tmp_path / "run").mkdir()
    (run / "config.yaml").touch()
    assert main([f"run={run}", "opponent=nosuch.py->Mine,random"]) == 2
    assert "opponent=nosuch.py->Mine: there is no file nosuch.py" in capsys.readouterr().err


def test_an_engine_that_has_only_what_it_has_trained_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run=x", "engine=tinker"]) == 2
    assert names(capsys.readouterr().err, "engine=tinker has no effect ... engine=transformers or vllm")


def test_settings_of_one_opponent_are_refused_beside_several(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run=x", "opponent=random,frozen", "opponent.word=x"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: opponent.word=x has no effect")
