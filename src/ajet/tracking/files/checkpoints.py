"""`checkpoints/step_<n>/` of a run: which there are, and whether their files are those that were saved.

`checksums.json` is written last and names every file of the checkpoint with its SHA-256. A folder without one is not
ajet's, or was not finished; it is neither read nor removed. Knows no torch.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from ajet.errors import RunDirectoryError
from ajet.tracking.files.reading import read_json
from ajet.tracking.files.writing import write_json

CHECKSUMS = "checksums.json"
TOKENIZER = "tokenizer"
"""The folder of a run in which the starting model's tokenizer is kept, sealed like a checkpoint."""
_STEP = re.compile(r"step_(0|[1-9][0-9]{0,11})")


def seal(folder: Path) -> None:
    """Write the checksums of all files below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    write_json(folder / CHECKSUMS, {str(path.relative_to(folder)): _checksum(path) for path in files})


def damage(folder: Path, only: Sequence[str] = ()) -> str | None:
    """What is wrong with a sealed folder in a few words, or None.

    Args:
        folder: what `seal` was given.
        only: the files that matter, as relative paths; empty: all.
    """
    try:
        checksums = read_json(folder / CHECKSUMS, dict)
    except RunDirectoryError as error:
        return str(error)
    if not checksums:
        return f"{CHECKSUMS} names no file"
    for name in only or checksums:
        path = folder / name
        if name not in checksums:
            return f"{name} was not saved with it"
        if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
            return f"{name} is missing"
        try:
            if _checksum(path) != checksums[name]:
                return f"{name} is not as it was saved"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
    return None


def saved_steps(run_dir: Path) -> list[int]:
    """Steps that have a checkpoint, sound or not, ascending; folders of others are not counted."""
    found = (_STEP.fullmatch(path.parent.name) for path in (run_dir / "checkpoints").glob(f"step_*/{CHECKSUMS}"))
    return sorted(int(match[1]) for match in found if match)


def unsealed_steps(run_dir: Path) -> list[int]:
    """Steps whose folder has no checksums, ascending: an older ajet's, another program's, or not finished."""
    found = (_STEP.fullmatch(path.name) for path in (run_dir / "checkpoints").glob("step_*"))
    return sorted({int(match[1]) for match in found if match} - set(saved_steps(run_dir)))


def step_folder(run_dir: Path, step: int) -> Path:
    """Where the checkpoint after `step` training steps lies."""
    return run_dir / "checkpoints" / f"step_{step}"


def step_of(folder: Path) -> int:
    """The number of training steps after which `step_folder`'s checkpoint was saved."""
    return int(folder.name.removeprefix("step_"))


def newest_sound(run_dir: Path, only: Sequence[str] = ()) -> tuple[Path | None, list[str]]:
    """The newest checkpoint whose files are as they were saved, and a few words on each newer one.

    Args:
        run_dir: the run directory.
        only: the files that matter; empty: all.
    """
    skipped: list[str] = []
    for step in reversed(saved_steps(run_dir)):
        folder = step_folder(run_dir, step)
        wrong = damage(folder, only)
        if wrong is None:
            return folder, skipped
        skipped.append(f"{folder.name}: {wrong}")
    return None, skipped


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
