"""Where output goes: each run and each sweep in a directory of its own, or in the one that it resumes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from tempfile import TemporaryFile

from omegaconf import DictConfig, OmegaConf

from ajet.config.cli.arguments import quoted
from ajet.config.sweeps.records import is_sweep
from ajet.errors import ConfigError, StorageError
from ajet.tracking.files.attempts import can_restart
from ajet.tracking.files.checkpoints import TOKENIZER
from ajet.tracking.files.writing import reason

_BEGINNING = (".hydra", ".lock", ".lock.json", "code.json", "config.yaml", "plan.json", "provenance.json", TOKENIZER)
"""What lies in a run's directory before anything is trained or played, besides its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Where a command's output goes."""

    overrides: list[str]
    """Hydra's, which say so."""
    made: Path | None = None
    """The run's directory, where it was made for it."""
    sweep: Path | None = None
    """The sweep's directory, if it is one."""


def place_run(tree: DictConfig, overrides: Sequence[str]) -> Placed:
    """Place a run: in a directory that no other has, or in the one that is resumed.

    Raises:
        ConfigError: the directory holds a run already, or two are named.
        StorageError: it cannot be written.
    """
    resume = OmegaConf.select(tree, "resume")
    if resume is None and "resume" in tree and _names(overrides, "trust_code"):
        raise ConfigError("trust_code has no effect without resume: a new run runs what you name")
    if resume is not None and _names(overrides, "run_dir"):
        raise ConfigError(f"resume={resume} continues in that directory: drop run_dir")
    if resume is not None:
        if Path(resume).is_dir():
            _make(Path(resume), exist_ok=True)
        # The first start's record stays; each resume adds its own beside it.
        record = f".hydra/resumed_{datetime.now():%Y-%m-%d_%H-%M-%S}"
        return Placed(overrides=[f"hydra.run.dir={quoted(resume)}", f"hydra.output_subdir={record}"])
    directory = Path(tree.hydra.run.dir)
    chosen = _names(overrides, "run_dir")
    if chosen:
        directory = Path(tree.run_dir)
    if chosen or _names(overrides, "hydra.run.dir"):
        if (directory / "config.yaml").is_file() and not can_restart(directory, trains="num_episodes" not in tree):
            raise ConfigError(f"{directory} holds a run already: resume={directory} continues it")
        made = None if directory.exists() else directory
        _make(directory, exist_ok=True)
        return Placed(overrides=[f"hydra.run.dir={quoted(str(directory))}"] if chosen else [], made=made)
    made = _claim(directory)
    return Placed(overrides=[f"hydra.run.dir={quoted(str(made))}"], made=made)


def remove_unused(made: Path) -> None:
    """Take away the directory of a run that was interrupted before it began, unless it holds more than a beginning."""
    if made.is_dir() and all(path.name in _BEGINNING or path.suffix == ".log" for path in made.iterdir()):
        shutil.rmtree(made, ignore_errors=True)


def place_sweep(tree: DictConfig, overrides: Sequence[str]) -> Path:
    """A directory that no other sweep has.

    Raises:
        ConfigError: the directory holds a sweep already, or one is named for all of its jobs.
        StorageError: it cannot be written.
    """
    if _names(overrides, "run_dir"):
        raise ConfigError("run_dir would be the same for all jobs of a sweep: set hydra.sweep.dir")
    directory = Path(tree.hydra.sweep.dir)
    if not _names(overrides, "hydra.sweep.dir"):
        return _claim(directory)
    if is_sweep(directory):
        raise ConfigError(f"{directory} holds a sweep already: resume={directory} continues it")
    _make(directory, exist_ok=True)
    return directory


def _names(overrides: Sequence[str], key: str) -> bool:
    return any(override.lstrip("+").startswith(f"{key}=") for override in overrides)


def _claim(directory: Path) -> Path:
    """Create the directory; where another process made it in the same second, one with a number added."""
    for number in count(2):
        try:
            _make(directory)
        except FileExistsError:
            stem = directory.name if number == 2 else directory.name.rpartition("_")[0]
            directory = directory.with_name(f"{stem}_{number}")
        else:
            break
    return directory


def _make(directory: Path, *, exist_ok: bool = False) -> None:
    """Make the directory, and see that files can be written there before anything is worth writing.

    Raises:
        StorageError: the system refuses.
        FileExistsError: there is one already, unless it may be there.
    """
    try:
        directory.mkdir(parents=True, exist_ok=exist_ok)
        with TemporaryFile(dir=directory):
            pass
    except OSError as error:
        if directory.is_dir() and isinstance(error, FileExistsError):
            raise
        raise StorageError(f"{directory} cannot be written: {reason(error)}") from error
