"""One process at a time works in a run directory; the system frees it when that process dies, however it dies."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ajet.errors import RunDirectoryError
from ajet.tracking.files.reading import read_json
from ajet.tracking.files.writing import write_json, writing

LOCK = ".lock"
OWNER = ".lock.json"
"""Who holds the lock; beside it, for whoever tries the lock empties its file."""


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Hold the directory, made if need be. Reading it needs no lock.

    Raises:
        RunDirectoryError: another process holds it; says which.
        StorageError: nothing can be written there.
    """
    lock = FileLock(run_dir / LOCK)
    try:
        with writing(run_dir):
            run_dir.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                raise RunDirectoryError(
                    f"{run_dir} is in use by {_owner(run_dir)}: wait until it has ended, or stop it first"
                ) from None
            except NotImplementedError:
                print(f"{run_dir}: this file system has no locks, so nothing keeps a second process out", flush=True)
        write_json(run_dir / OWNER, {"pid": os.getpid(), "host": socket.gethostname()})
        yield
    finally:
        lock.release()


def _owner(run_dir: Path) -> str:
    try:
        owner = read_json(run_dir / OWNER, dict)
    except RunDirectoryError:
        return "another process"
    return f"process {owner.get('pid')} on {owner.get('host')}"
