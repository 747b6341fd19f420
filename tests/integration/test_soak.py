"""A run that is killed again and again ends as one that never was."""

from __future__ import annotations

from pathlib import Path

import pytest
from recipes.soak.__main__ import main


@pytest.mark.slow
def test_a_run_killed_at_three_moments_ends_as_an_uninterrupted_one(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = main(["one", "--kills", "3", "--seed", "1", "--folder", str(tmp_path / "soak")])
    said = capfd.readouterr()
    assert code == 0, said.err
    assert said.out.count("\nkill ") == 3 and "the run ended as the uninterrupted one did" in said.out
