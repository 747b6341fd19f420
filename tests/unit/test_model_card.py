"""The README.md of a saved model says how to use what lies beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ajet.config.compose import compose
from ajet.train.model_card import model_card


@pytest.mark.parametrize(
    ("file", "told", "not_told"),
    [
        ("model.safetensors", ["vllm serve", "adapters of rank 4 merged in"], ["peft"]),
        ("adapter/adapter_model.safetensors", ["AutoPeftModelForCausalLM", "adapters of rank 4,"], ["vllm", "merged"]),
        ("tokenizer.json", ["could not be fetched"], ["vllm", "peft", "merged"]),
    ],
)
def test_the_card_tells_how_to_use_what_was_saved(
    file: str, told: list[str], not_told: list[str], tmp_path: Path
) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    config = compose(["workflow=signals", "hardware=tinker", "model.lora.rank=4"], run_dir=tmp_path / "run")
    card = model_card(config, tmp_path / "run" / "checkpoints" / "step_3" / "model", tmp_path)
    assert "after 3 training steps of signals" in card
    assert [word for word in told if word not in card] == []
    assert [word for word in not_told if word in card] == []
