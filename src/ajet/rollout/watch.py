"""Somebody who looks on while episodes are played."""

from __future__ import annotations

from typing import Protocol

from ajet.records import Call, Episode, Task


class Onlooker(Protocol):
    """Hears of things as they happen, on the rollout's thread."""

    def call(self, task: Task, repeat: int, call: Call) -> None:
        """A call was answered and recorded."""
        ...

    def failure(self, task: Task, repeat: int, error: BaseException) -> None:
        """The workflow's program raised, with the traceback that this exception carries."""
        ...

    def episode(self, episode: Episode) -> None:
        """An episode ended, its retries included."""
        ...
