"""A run's state on disk: `checkpoints/step_<n>/model/` in Hugging Face format and `trainer.pt` beside it.

A checkpoint is written into a hidden folder and renamed, so one that is there is whole. `step_<n>` holds the state
after n training steps.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from ajet.errors import RunDirectoryError


class CheckpointFolder:
    """`checkpoints/` of one run directory."""

    def __init__(self, run_dir: Path, *, keep: int) -> None:
        """`keep`: how many of the newest stay."""
        self._folder = run_dir / "checkpoints"
        self._keep = keep

    def save(self, num_steps: int, *, save_model: Any, trainer_state: dict[str, Any]) -> Path:
        """Write `step_<num_steps>`, then drop the oldest beyond `keep`.

        Args:
            num_steps: training steps done.
            save_model: called with the folder that the model goes into.
            trainer_state: what a resumed run needs besides the weights; saved with `torch.save`.
        """
        final = self._folder / f"step_{num_steps}"
        partial = self._folder / f".step_{num_steps}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        (partial / "model").mkdir(parents=True)
        save_model(partial / "model")
        torch.save(trainer_state, partial / "trainer.pt")
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
        for old in self.steps()[: -self._keep]:
            shutil.rmtree(self._folder / f"step_{old}")
        return final

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, ascending."""
        return sorted(int(path.name.removeprefix("step_")) for path in self._folder.glob("step_*"))

    def newest(self) -> Path:
        """The newest checkpoint's folder.

        Raises:
            RunDirectoryError: there is none.
        """
        steps = self.steps()
        if not steps:
            raise RunDirectoryError(f"{self._folder} holds no checkpoint to go on from.")
        return self._folder / f"step_{steps[-1]}"

    def at(self, num_steps: int) -> Path:
        """The checkpoint after `num_steps`.

        Raises:
            RunDirectoryError: there is none; names those there are.
        """
        path = self._folder / f"step_{num_steps}"
        if not path.is_dir():
            there = ", ".join(map(str, self.steps())) or "none"
            raise RunDirectoryError(f"{self._folder} has no step {num_steps}; there is {there}.")
        return path


def load_trainer_state(checkpoint: Path) -> dict[str, Any]:
    """What `save` was given as `trainer_state`."""
    state: dict[str, Any] = torch.load(checkpoint / "trainer.pt", map_location="cpu", weights_only=True)
    return state
