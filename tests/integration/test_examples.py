"""Examples are programs of the library's users: each runs as it stands, only shorter."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_loop_of_ones_own_trains_and_repeats_exactly() -> None:
    loop = loaded("grpo_loop")
    rewards = loop.train(steps=2, num_tasks=4, group_size=8, seed=3)
    assert len(rewards) == 2 and all(0 <= reward <= 1 for reward in rewards)
    assert loop.train(steps=2, num_tasks=4, group_size=8, seed=3) == rewards


def test_the_loop_of_ones_own_fits_on_three_screens() -> None:
    assert len((EXAMPLES / "grpo_loop.py").read_text().splitlines()) <= 150
