"""Whether this user wrote a record: an HMAC with a key that lies in the user's own configuration folder.

A hash that lies beside what it vouches for says nothing of who wrote both: whoever hands over a directory hands over
its records, too. The key never leaves the account, so that records of others, or of another machine, do not count.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any


def signature(content: Any) -> str | None:
    """Of plain data, which must survive JSON; None where the account cannot keep a key."""
    key = _key()
    if key is None:
        return None
    return hmac.new(key, json.dumps(content, sort_keys=True).encode(), hashlib.sha256).hexdigest()


def is_own(content: Any, signed: object) -> bool:
    """Whether `signed` is what `signature` gave this user for the content."""
    expected = signature(content)
    return expected is not None and isinstance(signed, str) and hmac.compare_digest(expected.encode(), signed.encode())


def _key() -> bytes | None:
    """The user's key, made when it is first asked for."""
    try:
        folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "ajet"
        path = folder / "key"
        if not path.exists():
            _make(folder, path)
        return path.read_bytes() or None
    except (OSError, RuntimeError):  # no home directory, or none that can be written to
        return None


def _make(folder: Path, path: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = folder / f".key.{os.getpid()}"
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.write(descriptor, secrets.token_bytes(32))
    os.close(descriptor)
    with suppress(FileExistsError):  # another process was first, and its key is the one that counts
        os.link(made, path)
    made.unlink()
