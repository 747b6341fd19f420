"""A run that ended before its first checkpoint: its directory is free for another start, and nothing of it is lost."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from ajet.storage.checkpoints import saved_steps
from ajet.storage.lock import OWNER
from ajet.storage.writing import writing

LEFT_BY_A_RUN = ("config.yaml", "metrics.jsonl", "summary.json", "error.txt", "trajectories", "checkpoints", "wandb")
"""What a run leaves and the next one in its directory would append to."""


def can_begin_again(run_dir: Path, *, trains: bool) -> bool:
    """Whether a directory with a config.yaml holds nothing but a training run without a checkpoint.

    Args:
        run_dir: the directory.
        trains: whether it is training that is about to begin there.
    """
    was_trained = (run_dir / OWNER).is_file() and not (run_dir / "summary.json").is_file()
    return trains and was_trained and not saved_steps(run_dir)


def set_aside(run_dir: Path) -> None:
    """Move what an attempt without a checkpoint left into `earlier_<n>/`."""
    if not (run_dir / "config.yaml").is_file() or saved_steps(run_dir):
        return
    with writing(run_dir):
        folder = next(path for number in count(1) if not (path := run_dir / f"earlier_{number}").exists())
        folder.mkdir()
        for name in LEFT_BY_A_RUN:
            if (run_dir / name).exists():
                (run_dir / name).rename(folder / name)
