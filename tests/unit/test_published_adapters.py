"""How adapters reach the engine, and whether a frozen opponent shares it: decided by settings alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ajet.config.adapters import engine_adapters, engine_keeps_start, why_merged
from ajet.config.compose import compose
from ajet.config.root import Config, PlayConfig
from ajet.engine.base import Adapters
from ajet.engine.vllm import VllmConfig
from ajet.engine.vllm_settings import engine_settings
from ajet.errors import ConfigError
from ajet.plan.setup import setup_of

LORA = ["model.lora.rank=12", "model.lora.alpha=24", "model.lora.targets=[q_proj,self_attn.v_proj]"]
ADAPTERS = Adapters(rank=12, alpha=24, targets=("q_proj", "self_attn.v_proj"))


def composed(checkpoint: Path, *overrides: str) -> Config:
    """The seer and the witch on a checkpoint that exists."""
    chosen = ["workflow=werewolves", "trainable_targets=[seer,witch]", f"model.path={checkpoint}"]
    return compose([*chosen, *overrides], run_dir="outputs/here")


def test_a_cpu_merges_and_a_gpu_takes_adapters_unless_told_otherwise(checkpoint: Path) -> None:
    assert engine_adapters(composed(checkpoint, *LORA)) is None
    assert engine_adapters(composed(checkpoint, *LORA, "engine.lora=adapters")) == ADAPTERS
    assert engine_adapters(composed(checkpoint, *LORA, "hardware=gpu_1")) == ADAPTERS
    assert engine_adapters(composed(checkpoint, *LORA, "hardware=gpu_1", "engine.lora=merged")) is None


def test_whole_weights_and_other_engines_know_no_adapters(checkpoint: Path) -> None:
    for overrides in (["engine.lora=adapters"], [*LORA, "engine=transformers"], [*LORA, "engine=scripted"]):
        config = composed(checkpoint, *overrides)
        assert engine_adapters(config) is None and why_merged(config) is None


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ("model.lora.targets=[q_proj,lm_head]", "no adapter on every lm_head"),
        ("model.lora.rank=600", "rank 512 at most"),
    ],
)
def test_adapters_that_vllm_cannot_have_are_merged_and_it_is_said(checkpoint: Path, changed: str, reason: str) -> None:
    config = composed(checkpoint, *LORA, "engine.lora=adapters", changed)
    assert engine_adapters(config) is None
    assert reason in str(why_merged(config))


def test_a_frozen_opponent_shares_the_engine_that_keeps_the_starting_model(checkpoint: Path) -> None:
    frozen = [*LORA, "opponent=frozen"]
    merged, apart = composed(checkpoint, *frozen), composed(checkpoint, *frozen, "engine.lora=adapters")
    assert not engine_keeps_start(merged) and engine_keeps_start(apart)
    assert [setup_of(config).num_engines for config in (merged, apart)] == [2, 1]
    assert [setup_of(config).merges_adapters for config in (merged, apart)] == [True, False]
    assert engine_keeps_start(PlayConfig())  # nothing is trained there


def test_vllm_makes_room_for_the_next_larger_rank_and_leaves_a_place_empty_on_the_cpu() -> None:
    def settings(adapters: Adapters | None, *, on_cpu: bool) -> dict[str, object]:
        return engine_settings(
            VllmConfig(), "m", max_context=64, dtype="float32", on_cpu=on_cpu, adapters=adapters, num_adapters=2
        )

    lora = settings(ADAPTERS, on_cpu=True)
    assert lora["enable_lora"] and (lora["max_lora_rank"], lora["max_loras"]) == (16, 3)
    assert lora["lora_target_modules"] == ["q_proj", "v_proj"]
    assert settings(replace(ADAPTERS, rank=512), on_cpu=False)["max_loras"] == 2
    assert "enable_lora" not in settings(None, on_cpu=True)


def test_engine_lora_has_two_values(checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match=r"engine.lora must be one of merged, adapters, not apart"):
        composed(checkpoint, "engine.lora=apart")
