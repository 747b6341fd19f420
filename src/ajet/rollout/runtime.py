"""The bridge from the trainer's plain code to the rollout's event loop, and Ctrl-C's way across it.

One loop serves a whole run, since engines keep futures on it. The first Ctrl-C asks for an orderly end: play under way
is cancelled, anything else is finished by whoever checks `interrupted`. The second one is Python's own.
"""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Coroutine
from types import FrameType
from typing import Any, Self, TypeVar

from ajet.rollout.event_loop import RolloutLoop

T = TypeVar("T")

YOUNG_OBJECTS = 100_000
"""New containers that make Python look for cycles; its own 700 cost a seventh of the time of play, as every call of an
agent leaves a few that live as long as the game."""


class Interrupted(Exception):
    """The user asked for an end while episodes were being played."""


class RolloutRuntime:
    """Runs coroutines to their end on one loop; a context manager that owns SIGINT meanwhile."""

    def __init__(self) -> None:
        """Nothing starts before the context is entered."""
        self._runner = asyncio.Runner(loop_factory=RolloutLoop)
        self._playing: asyncio.Task[Any] | None = None
        self._previous_handler: Any = None
        self._previous_threshold = gc.get_threshold()
        self.interrupted = False
        """Whether the user asked for an orderly end."""

    def __enter__(self) -> Self:
        """Take over Ctrl-C."""
        # What is loaded by now stays: full collections would walk it again and again, a tenth of the time of play.
        gc.collect()
        gc.freeze()
        self._previous_threshold = gc.get_threshold()
        gc.set_threshold(YOUNG_OBJECTS)
        self._previous_handler = signal.signal(signal.SIGINT, self._on_interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        """Give Ctrl-C back and close the loop."""
        signal.signal(signal.SIGINT, self._previous_handler)
        gc.set_threshold(*self._previous_threshold)
        gc.unfreeze()
        self._runner.close()

    def run(self, play: Coroutine[Any, Any, T]) -> T:
        """Run to the end.

        Raises:
            Interrupted: Ctrl-C came first.
        """
        if self.interrupted:
            play.close()
            raise Interrupted
        try:
            return self._runner.run(self._watched(play))
        except asyncio.CancelledError:
            raise Interrupted from None
        finally:
            gc.collect()  # the cycles that were left alone meanwhile, while there is hardly anything else to walk

    async def _watched(self, play: Coroutine[Any, Any, T]) -> T:
        self._playing = asyncio.current_task()
        try:
            return await play
        finally:
            self._playing = None

    def _on_interrupt(self, signum: int, frame: FrameType | None) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True
        if self._playing is not None:
            self._runner.get_loop().call_soon_threadsafe(self._playing.cancel)
