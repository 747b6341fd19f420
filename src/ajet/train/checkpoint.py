"""A run's state on disk: `checkpoints/step_<n>/model/` in Hugging Face format and `trainer.pt` beside it.

A checkpoint is written into a hidden folder, sealed with the checksums of its files, flushed to the disk and renamed;
it is verified whenever it is loaded. `step_<n>` holds the state after n training steps.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from ajet.errors import ConfigError, RunDirectoryError, StorageError
from ajet.tracking.files.checkpoints import (
    CHECKSUMS,
    damage,
    newest_sound,
    saved_steps,
    seal,
    step_folder,
    unsealed_steps,
)
from ajet.tracking.files.writing import flush, flush_tree, reason, writing

_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")


class CheckpointFolder:
    """`checkpoints/` of one run directory."""

    def __init__(self, run_dir: Path, *, keep: int, describe: Callable[[Path, Path], str] | None = None) -> None:
        """`keep`: how many of the newest stay; `describe`: the README.md of the model that will lie in a folder, whose
        files are in another yet."""
        self.run_dir = run_dir
        self._folder = run_dir / "checkpoints"
        self._keep = keep
        self._describe = describe

    def save(self, num_steps: int, *, save_model: Any, trainer_state: dict[str, Any]) -> Path:
        """Write `step_<num_steps>`, then drop the oldest beyond `keep`.

        Args:
            num_steps: training steps done.
            save_model: called with the folder that the model goes into.
            trainer_state: what a resumed run needs besides the weights; saved with `torch.save`.

        Raises:
            StorageError: it cannot be written; earlier checkpoints stay as they are.
        """
        final = step_folder(self.run_dir, num_steps)
        partial = self._folder / f".step_{num_steps}.partial"
        with _saving(final):
            self._drop_partial()
            (partial / "model").mkdir(parents=True)
            try:
                save_model(partial / "model")
                if self._describe is not None:
                    card = self._describe(final / "model", partial / "model")
                    (partial / "model" / "README.md").write_text(card, encoding="utf-8")
                with (partial / "trainer.pt").open("wb") as file:
                    torch.save(trainer_state, file)
                _give_one_mode(partial)
                seal(partial)
                flush_tree(partial)
                self._put_in_place(partial, final)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
            # Later ones are left of a future that is being trained anew; they are none of the oldest.
            for old in [step for step in self.steps() if step <= num_steps][: -self._keep]:
                shutil.rmtree(step_folder(self.run_dir, old))
        return final

    def _drop_partial(self) -> None:
        """What a killed process left unfinished."""
        for left in self._folder.glob(".step_*.partial"):
            shutil.rmtree(left)

    def _put_in_place(self, partial: Path, final: Path) -> None:
        if final.exists() and not (final / CHECKSUMS).is_file():  # not ours to remove
            final.rename(_free_name(final))
        if final.exists():  # a damaged one, whose step was trained again
            aside = self._folder / f".{final.name}.replaced.partial"
            final.rename(aside)
            partial.rename(final)
            shutil.rmtree(aside)
        else:
            partial.rename(final)
        flush(self._folder)

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, ascending."""
        return saved_steps(self.run_dir)

    def are_there(self) -> bool:
        """Whether any folder has a checkpoint's name, whoever made it."""
        return bool(saved_steps(self.run_dir) or unsealed_steps(self.run_dir))

    def newest(self) -> Path:
        """The newest checkpoint whose files are as they were saved; a warning names newer ones that are passed over.

        Raises:
            RunDirectoryError: there is none.
        """
        found, skipped = newest_sound(self.run_dir)
        last = max(self.steps(), default=-1)
        skipped = [
            f"step_{step}: it has no {CHECKSUMS}" for step in unsealed_steps(self.run_dir) if step > last
        ] + skipped
        if found is None:
            there = f"no sound checkpoint ({'; '.join(skipped)})" if skipped else "no checkpoint"
            raise RunDirectoryError(f"{self._folder} holds {there}")
        if skipped:
            told = f"warning: {self._folder}: {'; '.join(skipped)}; {found.name} is taken instead"
            print(told, file=sys.stderr, flush=True)
        return found

    def at(self, num_steps: int) -> Path:
        """The checkpoint after `num_steps`.

        Raises:
            RunDirectoryError: there is none, and which there are; or its files are not as they were saved.
        """
        if num_steps not in self.steps():
            there = ", ".join(map(str, self.steps())) or "none"
            raise RunDirectoryError(f"{self._folder} has no step {num_steps}; there is {there}")
        path = step_folder(self.run_dir, num_steps)
        wrong = damage(path)
        if wrong is not None:
            raise RunDirectoryError(f"{path} is damaged: {wrong}")
        return path

    def check_space(self, num_bytes: int, num_saves: int) -> None:
        """Refuse to start what the disk could not keep.

        Args:
            num_bytes: of one checkpoint.
            num_saves: checkpoints still to be written; a new one stands beside the old ones before they are dropped.

        Raises:
            ConfigError: the disk has not as much space.
        """
        num = min(num_saves, max(1, self._keep + 1 - len(self.steps())))
        with writing(self.run_dir):
            free = shutil.disk_usage(self.run_dir).free
        if free < num * num_bytes:
            raise ConfigError(
                f"{self.run_dir} lies on a disk with {free / 2**30:.1f} GiB free, and {num} checkpoints of "
                f"{num_bytes / 2**30:.1f} GiB will be there at once: make room, lower checkpoint.keep={self._keep}, "
                "or choose another run_dir"
            )


def _free_name(folder: Path) -> Path:
    """Where a folder that has a checkpoint's name is kept."""
    return next(path for n in count(1) if not (path := folder.with_name(f"{folder.name}.kept_{n}")).exists())


@contextmanager
def _saving(path: Path) -> Iterator[None]:
    """`writing`, for libraries whose errors are not the system's, too."""
    with writing(path):
        try:
            yield
        except SafetensorError as error:
            number = _SYSTEM_ERROR.search(str(error))
            if number:
                raise OSError(int(number[1]), str(error)) from error
            raise StorageError(f"{path} cannot be written: {error}") from error
        except RuntimeError as error:
            if not isinstance(error.__context__, OSError):  # torch's word on a file that did not take all it was given
                raise
            raise StorageError(f"{path} cannot be written: {reason(error.__context__)}") from error


def _give_one_mode(folder: Path) -> None:
    """Every file as open as a new one is here; safetensors makes files that only their owner can read."""
    sample = folder / "trainer.pt"
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(sample.stat().st_mode)


def load_trainer_state(checkpoint: Path) -> dict[str, Any]:
    """What `save` was given as `trainer_state`. Only tensors and plain values are read; nothing in it is run.

    Raises:
        RunDirectoryError: it holds something else.
    """
    path = checkpoint / "trainer.pt"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the boundary to a file that any process may have written
        words = str(error).partition("\n")[0]
        raise RunDirectoryError(f"{path} is not a trainer's state: {words[:200]}") from error
    if not isinstance(state, dict):
        raise RunDirectoryError(f"{path} is not a trainer's state: it holds {type(state).__name__}")
    return state
