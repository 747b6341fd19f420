"""What a run's checkpoints hold beside the weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from ajet.tracking.files.checkpoints import seal, step_folder
from ajet.train.checkpoint import CheckpointFolder
from ajet.train.learner import Learner
from ajet.train.state import RunState


class NoWeights:
    """A learner that has nothing to keep."""

    is_sharded = False

    def state_dict(self, *, kept: bool) -> dict[str, Any]:
        return {}

    def model_writer(self, *, kept: bool) -> Callable[[Path], None]:
        return lambda folder: (folder / "empty").touch()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert state == {}

    def is_finite(self) -> bool:
        return True


def state_in(run_dir: Path) -> RunState:
    return RunState(learner=cast(Learner, NoWeights()), checkpoints=CheckpointFolder(run_dir, keep=2))


@pytest.mark.parametrize("is_of_earlier_version", [False, True])
def test_a_resumed_run_has_what_its_credit_rule_kept(tmp_path: Path, is_of_earlier_version: bool) -> None:
    saved, resumed = state_in(tmp_path), state_in(tmp_path)
    saved.num_steps_done, saved.credit = 3, {"baselines": {"seer": 0.1}}
    saved.save()
    folder = step_folder(tmp_path, 3)
    if is_of_earlier_version:
        content = torch.load(folder / "trainer.pt", weights_only=True)
        del content["credit"]
        torch.save(content, folder / "trainer.pt")
        seal(folder)
    resumed.restore(folder)
    assert resumed.num_steps_done == 3
    assert resumed.credit == ({} if is_of_earlier_version else {"baselines": {"seer": 0.1}})
