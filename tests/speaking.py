"""Commands that run beside a test, and what they print meanwhile."""

from __future__ import annotations

import subprocess


def said_until(process: subprocess.Popen[str], beginning: str) -> str:
    """Wait for a line that begins so; what was said up to it."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if line.startswith(beginning):
            return said
    raise AssertionError(said)
