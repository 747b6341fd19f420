"""A run without a checkpoint: whether its directory is free for another start, and how nothing of it is lost then."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from ajet.errors import RunDirectoryError
from ajet.tracking.files.checkpoints import CHECKSUMS, TOKENIZER, saved_steps, step_folder, unsealed_steps
from ajet.tracking.files.lock import OWNER
from ajet.tracking.files.writing import writing

LEFT_BY_A_RUN = (
    "config.yaml",
    "metrics.jsonl",
    "summary.json",
    "error.txt",
    "trajectories",
    "checkpoints",
    "wandb",
    TOKENIZER,
)
"""What a run leaves and the next one in its directory would append to."""


def can_restart(run_dir: Path, *, trains: bool) -> bool:
    """Whether a directory with a config.yaml holds nothing but a training run without a checkpoint.

    Args:
        run_dir: the directory.
        trains: whether it is training that is about to begin there.
    """
    return trains and (run_dir / OWNER).is_file() and not saved_steps(run_dir) and _reason_to_keep(run_dir) is None


def check_resumable(run_dir: Path) -> None:
    """Pass if a run has a checkpoint to resume from, or was killed before its first one and may begin again.

    Raises:
        RunDirectoryError: it holds work that beginning again would put out of sight.
    """
    why = None if saved_steps(run_dir) else _reason_to_keep(run_dir)
    if why is not None:
        raise RunDirectoryError(f"{run_dir} holds no checkpoint that can be resumed: {why}; nothing was changed")


def _reason_to_keep(run_dir: Path) -> str | None:
    """What a directory without a sealed checkpoint holds that is more than an attempt's beginning, or None."""
    unsealed = unsealed_steps(run_dir)
    if unsealed:
        newest = step_folder(run_dir, unsealed[-1])
        return (
            f"{newest.name} has no {CHECKSUMS}, so an earlier ajet made it or it is not whole; to train on from it "
            f"start a new run with model.path={newest / 'model'}"
        )
    if (run_dir / "summary.json").exists():
        return "the run ended, and its checkpoints are gone; start a new run in another directory"
    return None


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


def drop_unfinished(run_dir: Path) -> None:
    """Remove files that a killed process left half written; only the process that holds the run's lock writes them."""
    half_written = [f".{name}.*.partial" for name in LEFT_BY_A_RUN] + ["trajectories/.*.partial"]
    with writing(run_dir):
        for left in [path for pattern in half_written for path in run_dir.glob(pattern)]:
            left.unlink()
