"""Whether vLLM in the process sleeps while the policy is trained: settings alone, since only a GPU has it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.test_plan import ON_GPU, SMOLLM2

from ajet.config.adapters import engine_adapters, why_merged
from ajet.config.compose import compose
from ajet.config.root import Config
from ajet.errors import ConfigError
from ajet.plan.parts import memory_plan
from ajet.plan.setup import setup_of

LORA = ["model.lora.rank=8", "model.lora.alpha=16", "model.lora.targets=[q_proj]"]


def composed(checkpoint: Path, *overrides: str) -> Config:
    """The seer and the witch on a checkpoint that exists."""
    chosen = ["workflow=werewolves", "trainable_targets=[seer,witch]", f"model.path={checkpoint}"]
    return compose([*chosen, *overrides], run_dir="outputs/here")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["engine.sleep_level=1"], "engine.sleep_level=1 has no effect with hardware.device=cpu"),
        (["hardware=gpu_1", "engine.sleep_level=3"], "engine.sleep_level must be at least 1 and at most 2, not 3"),
        (["hardware=gpu_1", "engine.sleep_level=2", "opponent=frozen"], "of two in a process none can sleep"),
    ],
)
def test_sleep_that_cannot_be_is_refused(checkpoint: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        composed(checkpoint, *overrides)


def test_a_frozen_opponent_on_the_same_engine_lets_it_sleep_with_its_weights_kept(checkpoint: Path) -> None:
    config = composed(checkpoint, *LORA, "hardware=gpu_1", "engine.sleep_level=1", "opponent=frozen")
    assert engine_adapters(config) is not None and setup_of(config).engine_sleeps
    dropped = composed(checkpoint, *LORA, "hardware=gpu_1", "engine.sleep_level=2")
    assert engine_adapters(dropped) is None
    assert why_merged(dropped) == "engine.sleep_level=2 drops the starting model's weights, 1 keeps them"


def test_the_plan_of_an_update_is_without_a_sleeping_engine() -> None:
    awake, asleep = memory_plan(SMOLLM2, ON_GPU), memory_plan(SMOLLM2, replace(ON_GPU, engine_sleeps=True))
    freed = [awake.peak_gib(phase) - asleep.peak_gib(phase) for phase in ("rollout", "update", "sync")]
    assert freed == pytest.approx([0.0, 32.0, 0.0])
