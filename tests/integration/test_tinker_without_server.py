"""A run on a Tinker server that is there no more: what is said of it, and what plays it all the same."""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from tests.sentences import names

from ajet.assemble.policies import load_trained
from ajet.config.compose import compose
from ajet.config.hardware import HardwareConfig
from ajet.config.known_code import record_code
from ajet.config.model import ModelConfig, resolve_model_path
from ajet.config.saved import save
from ajet.engine.checkpoint import load_causal_lm
from ajet.errors import RunDirectoryError
from ajet.evaluate.__main__ import main as evaluate
from ajet.train.checkpoint import CheckpointFolder

MODEL = resolve_model_path("builtin:tiny")
NOWHERE = "http://127.0.0.1:1"


def adapted() -> peft.PeftModel:
    """The small model with adapters that change what it says."""
    model = load_causal_lm(MODEL, torch.float32, max_context=128)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
        return peft.get_peft_model(model, config)


def write_adapter(folder: Path) -> None:
    adapted().save_pretrained(str(folder / "adapter"))


def write_model(folder: Path) -> None:
    shutil.copytree(MODEL, folder, dirs_exist_ok=True)


def write_nothing(folder: Path) -> None:
    """As where the server did not give the weights."""


def make_run(folder: Path, write: Callable[[Path], None], *, url: str = NOWHERE) -> Path:
    """A run of one step whose state no server has; by default nobody listens at its server's address either."""
    folder.mkdir()
    asked = ["workflow=signals", "hardware=tinker", f"tinker.base_url={url}", "model.lora.rank=4"]
    config = compose(asked, run_dir=folder)
    save(config, folder / "config.yaml")
    record_code(config, folder)
    state = {"policy": {"state_path": "tinker://gone/weights/state", "rank": 4}}
    CheckpointFolder(folder, keep=1).save(1, save_model=write, trainer_state=state)
    return folder


@pytest.mark.slow
def test_a_server_that_is_gone_is_said_at_once_with_a_command_that_plays_without_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "a run", write_adapter)
    begun = time.monotonic()
    assert evaluate([f"run={run}", "num_tasks=2"]) == 1
    assert time.monotonic() - begun < 60, "however long tinker.timeout_s is"
    said = capsys.readouterr().err
    assert names(said, f"{NOWHERE} ... cannot be reached ... python -m ajet.evaluate ... engine=transformers")
    words = shlex.split(said[said.index("python -m ajet.evaluate") :])
    assert evaluate([*words[3:], "num_tasks=2"]) == 0
    assert "starting model against step_1" in capsys.readouterr().out


def test_where_no_weights_were_saved_no_command_is_promised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run", write_nothing)
    assert evaluate([f"run={run}"]) == 1
    said = capsys.readouterr().err
    assert "weights were not saved here" in said and "python -m" not in said


def test_what_a_server_has_trained_is_loaded_from_either_form(tmp_path: Path) -> None:
    model, hardware, ids = ModelConfig(path=MODEL), HardwareConfig(), torch.tensor([[3, 5, 7, 9, 11]])

    def logits_of(write: Callable[[Path], None]) -> torch.Tensor:
        run = make_run(tmp_path / write.__name__, write)
        checkpoint = run / "checkpoints" / "step_1"
        return logits(load_trained(model, hardware, MODEL, checkpoint))

    def logits(loaded: Any) -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = loaded(input_ids=ids).logits
        return found

    start, expected = logits(load_trained(model, hardware, MODEL, None)), logits(adapted())
    torch.testing.assert_close(logits_of(write_adapter), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(logits_of(write_model), start, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(start, expected, atol=1e-2)
    with pytest.raises(RunDirectoryError, match="could not be fetched"):
        logits_of(write_nothing)
