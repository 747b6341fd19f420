"""A model that no settings are known for gets careful ones, and the user is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ajet.config.compose import compose
from ajet.config.model import resolve_model_path
from ajet.config.overview import overview
from ajet.config.unknown_model import CAREFUL_LORA_RATE, CAREFUL_RATE

TINY = Path(resolve_model_path("builtin:tiny"))
LORA = ["model.lora.rank=8", "model.lora.alpha=16", "model.lora.targets=[q_proj]"]


def checkpoint(folder: Path, **changes: object) -> str:
    content = json.loads((TINY / "config.json").read_text()) | changes
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(content))
    return str(folder)


@pytest.mark.parametrize(
    ("overrides", "rate", "told"),
    [
        ([], CAREFUL_RATE, True),
        (LORA, CAREFUL_LORA_RATE, True),
        (["algorithm.learning_rate=3e-5"], 3e-5, False),
        (["model=smollm2"], 2e-5, False),
    ],
)
def test_what_is_known_of_another_model_does_not_hold_for_it(
    tmp_path: Path, overrides: list[str], rate: float, told: bool
) -> None:
    path = checkpoint(tmp_path / "large", hidden_size=4096)
    config = compose(["workflow=signals", f"model.path={path}", *overrides], run_dir=tmp_path)
    assert config.algorithm.learning_rate == rate
    assert any("algorithm.learning_rate" in line for line in overview(config)) is told


def test_a_checkpoint_of_the_small_model_keeps_its_settings(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "trained")
    rates = {
        compose(["workflow=signals", *overrides], run_dir=tmp_path).algorithm.learning_rate
        for overrides in ([], [f"model.path={path}"], ["model.path=builtin:tiny_tasks"])
    }
    assert len(rates) == 1
