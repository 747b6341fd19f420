"""The bridge from the trainer's plain code to the rollout's event loop, and Ctrl-C's way across it.

One loop serves a whole run, since engines keep futures on it. The first Ctrl-C asks for an orderly end, and so do
SIGTERM and SIGHUP: play under way is cancelled, anything else is finished by whoever calls `check`. The second one
ends whatever is being done.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, nullcontext
from typing import Any, Self, TypeVar

from ajet.config.cli.ending import ending_signals
from ajet.errors import UserInterrupt, WorkflowError
from ajet.rollout.boundary import run_isolated
from ajet.rollout.event_loop import RolloutLoop
from ajet.rollout.watchdog import ending_blocked_calls

T = TypeVar("T")

YOUNG_OBJECTS = 100_000
"""New containers that make Python look for cycles; its own 700 cost a seventh of the time of play, as every call of an
agent leaves a few that live as long as the game."""


CLOSING_S = 2.0
"""For what is left running at the end of a run."""


class Interrupted(Exception):
    """The user or the system asked for an end while episodes were being played."""

    def __init__(self, signum: int) -> None:
        """`signum`: the signal that asked."""
        super().__init__(signum)
        self.signum = signum


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class RolloutRuntime:
    """Runs coroutines to their end on one loop; a context manager that owns Ctrl-C, SIGTERM and SIGHUP meanwhile."""

    _loop: RolloutLoop

    def __init__(self, *, patience_s: float | None = None, say: Callable[[str], None] = _say) -> None:
        """Nothing starts before the context is entered.

        Args:
            patience_s: for so long a call may block the loop before it is ended; None: for good.
            say: takes warnings for the user.
        """
        self._patience_s = patience_s
        self._say = say
        self._playing: asyncio.Task[Any] | None = None
        self._signals = ExitStack()
        self._previous_threshold = gc.get_threshold()
        self._signum: int | None = None

    def __enter__(self) -> Self:
        """Take over Ctrl-C."""
        self._loop = RolloutLoop()
        # What is loaded by now stays: full collections would walk it again and again, a tenth of the time of play.
        gc.collect()
        gc.freeze()
        self._previous_threshold = gc.get_threshold()
        gc.set_threshold(YOUNG_OBJECTS)
        self._signals.enter_context(ending_signals(self._on_signal))
        return self

    def __exit__(self, *_: object) -> None:
        """Give Ctrl-C back and close the loop."""
        try:
            self._loop.close_within(CLOSING_S)
        finally:
            self._signals.close()
            gc.set_threshold(*self._previous_threshold)
            gc.unfreeze()

    def check(self) -> None:
        """Between two pieces of work.

        Raises:
            Interrupted: an orderly end was asked for.
        """
        if self._signum is not None:
            raise Interrupted(self._signum)

    def run(self, play: Coroutine[Any, Any, T]) -> T:
        """Run to the end.

        Raises:
            Interrupted: Ctrl-C came first.
            WorkflowError: a user's program cancelled the play of all.
        """
        if self._signum is not None:
            play.close()
        self.check()
        self._playing = self._loop.create_task(run_isolated(lambda: play))
        patience = self._patience_s
        watched = nullcontext() if patience is None else ending_blocked_calls(self._loop, patience, self._say)
        try:
            with watched:
                return self._loop.run_until_complete(self._playing).result()  # type: ignore[no-any-return]
        except asyncio.CancelledError:
            self.check()
            raise WorkflowError(
                "a program cancelled tasks that are not its own, and with them the play of all: "
                "asyncio.all_tasks() holds those of every episode"
            ) from None
        finally:
            self._playing = None
            gc.collect()  # the cycles that were left alone meanwhile, while there is hardly anything else to walk

    def _on_signal(self, signum: int) -> None:
        if self._signum is not None:
            raise UserInterrupt(signum)
        self._signum = signum
        if self._playing is not None:
            self._loop.call_soon_threadsafe(self._playing.cancel)
