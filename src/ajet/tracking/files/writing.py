"""Files that are there whole or not at all, and one sentence where they cannot be written.

A file is written beside its place, flushed to the disk and renamed, so that neither a reader nor a crash, be it of the
machine, ever meets half of one. The one way in which ajet replaces a file.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ajet.errors import StorageError

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than is allowed here",
    errno.EACCES: "there is no permission to write there",
    errno.EPERM: "there is no permission to write there",
    errno.EROFS: "the file system is read-only",
    errno.ENOENT: "its directory is gone",
    errno.ENOTDIR: "a part of its path is not a directory",
    errno.EISDIR: "a directory has its name",
    errno.EMFILE: "too many files are open (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine",
    errno.EPIPE: "the reader of the pipe is gone",
    errno.EIO: "the disk fails",
    errno.ESTALE: "the network file system has lost it",
}


def reason(error: OSError) -> str:
    """Why the system refused, in words."""
    return _REASONS.get(error.errno or 0, error.strerror or str(error))


def refusal(error: OSError) -> str | None:
    """What the system refused, and where; None where a traceback alone would tell what is wrong.

    Example: `runs/a/metrics.jsonl: the disk is full`.
    """
    if error.errno not in _REASONS:
        return None
    return reason(error) if error.filename is None else f"{error.filename}: {reason(error)}"


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Around code that writes there.

    Raises:
        StorageError: the system refused; one sentence that names the place and why.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {reason(error)}") from error


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make the file under another name, and put it in place.

    A device or a pipe (`/dev/stdout`) is written to and stays. A link to a file is replaced and not followed, for
    another user's run directory may hold links to anything.

    Raises:
        StorageError: it cannot be written; what was there before still is.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        with writing(path):
            write(path)
        return
    # The process is part of the name, for several may write the same file, e.g. the ranks of one run.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with writing(path):
        try:
            write(partial)
            flush(partial)
            partial.replace(path)
            flush(path.parent)
        except BaseException:
            with suppress(OSError):
                partial.unlink()
            raise


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8 by `write_whole`: a reader sees the old file or the new one, never half of one."""
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    """`write_whole` of JSON, indented; a number that is not finite is a mistake of the caller's."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def flush(path: Path) -> None:
    """Have a file, or the names in a directory, on the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        flush_open(descriptor)
    finally:
        os.close(descriptor)


def flush_open(descriptor: int) -> None:
    """As `flush`, for a file that is open already."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # pipes, and directories of some file systems, need no flushing
            raise


def flush_tree(folder: Path) -> None:
    """`flush` a directory and all that is below it, the deepest first."""
    for inner, _, names in os.walk(folder, topdown=False):
        for name in names:
            flush(Path(inner, name))
        flush(Path(inner))
