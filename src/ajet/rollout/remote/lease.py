"""A worker's hold on the episode that it plays: renewed at the trainer while the program runs, on a thread of its own.

In: an episode that was claimed, and the program that plays it. Out: what the program returns, or its cancellation where
the trainer says that the episode is over. Left out: what the trainer is told of the end (`ajet.rollout.worker`).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ajet.errors import AjetError, EpisodeOverError
from ajet.rollout.remote.tuner import TrainerClient

RENEWALS = 3
"""In the time of a lease."""
LEAST_WAIT_S = 1.0
"""That a renewal is given for its answer, however short the lease."""


class Lease:
    """Renews an episode's lease while it is played, and cancels a program whose episode is over."""

    def __init__(self, trainer: TrainerClient, path: str, lease_s: float, loop: asyncio.AbstractEventLoop) -> None:
        """`path`: the episode at the trainer; `lease_s`: how long it was given for; `loop`: of its program."""
        self.is_lost = False
        """Whether the episode is over at the trainer's."""
        self._trainer = trainer
        self._path = path
        self._every_s = lease_s / RENEWALS
        self._loop = loop
        self._running: asyncio.Task[Any] | None = None
        self._done = threading.Event()

    def hold(self, program: Callable[[], Any]) -> Any:
        """What the program returns, while the lease is renewed."""
        threading.Thread(target=self._renew, name="ajet-lease", daemon=True).start()
        try:
            return program()
        finally:
            self._done.set()

    def run(self, made: Any) -> Any:
        """What a coroutine returns."""
        self._running = asyncio.ensure_future(made, loop=self._loop)
        return self._loop.run_until_complete(self._running)

    def _renew(self) -> None:
        while not self._done.wait(self._every_s):
            try:
                self._trainer.ask(f"{self._path}/renew", {}, timeout_s=max(self._every_s, LEAST_WAIT_S))
            except EpisodeOverError:
                self.is_lost = True
                if self._running is not None:  # of a plain function nothing can be ended; its models answer no more
                    with suppress(RuntimeError):  # it has ended meanwhile, and its loop is closed
                        self._loop.call_soon_threadsafe(self._running.cancel)
                return
            except AjetError:
                continue
