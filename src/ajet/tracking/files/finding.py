"""Which run directories there are below a folder, and which of them is the newest. Of what is in them only
the kind of run is read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ajet.errors import ConfigError

LATEST = "latest"
"""Stands for the newest run wherever a run directory is taken."""
OUTPUT_ROOT = "outputs"
"""Where runs go unless `paths.output_root` says otherwise."""
DEEPEST = 4
"""Folders between the one that is named and a run: outputs/multirun/<date>/<time>/<job> has the most."""


def config_files(path: Path) -> tuple[Path, Path]:
    """Where a run's configuration may lie: resolved, or as Hydra wrote it before the run had begun."""
    return path / "config.yaml", path / ".hydra" / "config.yaml"


def is_run(path: Path) -> bool:
    """Whether a folder is a run directory."""
    return any(file.is_file() for file in config_files(path))


def runs_below(folder: Path, depth: int = 0) -> Iterator[Path]:
    """Run directories in a folder, at any depth that ajet makes; what lies in a run is not looked at."""
    for path in folder.iterdir():
        if not path.is_dir() or path.is_symlink() or path.name.startswith("."):
            continue
        if is_run(path):
            yield path
        elif depth < DEEPEST and os.access(path, os.R_OK | os.X_OK):
            yield from runs_below(path, depth + 1)


def newest_run(root: str | Path = OUTPUT_ROOT, *, trained: bool = True) -> Path:
    """The run below `root` that was started, or resumed, last.

    Args:
        root: the folder, as `paths.output_root` names it.
        trained: leave out episodes that were only played, by `ajet rollout`.

    Raises:
        ConfigError: there is none.
    """
    root = Path(root)
    begun = ((path, path / "config.yaml") for path in (runs_below(root) if root.is_dir() else ()))
    runs = [(config.stat().st_mtime_ns, str(path)) for path, config in begun if config.is_file()]
    for _, path in sorted(runs, reverse=True):
        if not (trained and _is_played(Path(path))):
            return Path(path)
    kind = "training run" if trained else "run"
    raise ConfigError(f"{LATEST}: there is no {kind} below {root} yet: start one, or name a run directory")


def _is_played(run: Path) -> bool:
    """Whether the run is one of `ajet rollout`, whose configuration alone says how many episodes to play."""
    with (run / "config.yaml").open(encoding="utf-8", errors="replace") as lines:
        return any(line.startswith("num_episodes:") for line in lines)


def named_run(name: str, root: str | Path = OUTPUT_ROOT, *, trained: bool = True) -> Path:
    """The folder that a user names; `latest` is the newest run.

    Raises:
        ConfigError: there is none.
    """
    return newest_run(root, trained=trained) if name == LATEST else Path(name)
