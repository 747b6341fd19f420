"""A run whose gradients are not finite stops with its last sound state."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ajet.config.cli.entry import run_entry
from ajet.config.compose import load_training
from ajet.train.__main__ import train

WORKFLOW = Path(__file__).parent / "overflowing_workflow.py"


def test_three_steps_in_a_row_whose_gradients_are_not_finite_end_a_run_with_its_last_sound_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "workflow=custom",
        f'workflow.entry="{WORKFLOW}->Overflowing"',
        "debug=fast",
        "model=tiny_tasks",
        "algorithm=rloo",
        "total_steps=20",
        "checkpoint.every=1",
        "eval=none",
        f"hydra.run.dir={tmp_path}",
    ]
    assert run_entry("train", load_training, train, arguments) == 1
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "in 3 training steps in a row" in said and f"{tmp_path}/checkpoints/step_3" in said
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["policy/skipped_nonfinite"] for line in lines] == [1.0, 1.0, 1.0]
    assert all(value is not None for line in lines for value in line.values())
    assert not any(line["policy/optimizer_steps"] for line in lines)
    states = [load_file(path) for path in tmp_path.glob("checkpoints/*/model/*.safetensors")]
    assert states and all(bool(torch.isfinite(tensor).all()) for state in states for tensor in state.values())
