"""What a run tells of its episodes while it plays them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ajet.records import Call, Episode, Task


def _nothing(*_: object) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutCallbacks:
    """Called as things happen, on the rollout's thread; each does nothing unless it is given."""

    on_call: Callable[[Task, int, Call], None] = _nothing
    """(task, repeat, call): a call was answered and recorded."""
    on_failure: Callable[[Task, int, BaseException], None] = _nothing
    """(task, repeat, error): the workflow's program raised, with the traceback that this exception carries."""
    on_episode: Callable[[Episode], None] = _nothing
    """An episode ended, its retries included."""
