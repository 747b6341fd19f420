"""What trainer and workers have agreed on: the key that lets workers in, which no message shows, and a version."""

from __future__ import annotations

import os
from typing import Literal

from ajet.errors import ConfigError

KEY = "AJET_WORKER_KEY"
VERSION: Literal[1] = 1
"""Of what they say to each other (`ajet.rollout.remote.server`); others are refused."""


def worker_key(given: str | None = None) -> str:
    """The key of the environment, or one that was given in its place.

    Raises:
        ConfigError: there is none, or it cannot be sent in a header.
    """
    key = os.environ.get(KEY, "") if given is None else given
    if len(key) < 16 or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(
            f"Workers are let in by a key: export {KEY}, the same at the trainer and at its workers, 16 letters or "
            "digits or more, e.g. of `openssl rand -hex 16`"
        )
    return key
