"""The bridge from the trainer's plain code to the rollout's event loop, and Ctrl-C's way across it.

One loop serves a whole run, since engines keep futures on it. The first Ctrl-C asks for an orderly end, and so do
SIGTERM and SIGHUP: play under way is cancelled, anything else is finished by whoever calls `check`. The second one
ends whatever is being done.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import ExitStack, nullcontext, suppress
from typing import Any, Generic, Self, TypeVar

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


class Playing(Generic[T]):
    """Something that is played on a loop, whenever that runs."""

    def __init__(self, loop: asyncio.AbstractEventLoop, play: Coroutine[Any, Any, T]) -> None:
        """Begins when the loop runs next."""
        self.task = loop.create_task(run_isolated(lambda: play))
        self._begun = time.perf_counter()
        self._ended: float | None = None

        def end(_: object) -> None:
            self._ended = time.perf_counter()
            play.close()  # which a cancelled task may never have begun

        self.task.add_done_callback(end)

    def seconds(self) -> float:
        """How long it took, or takes so far."""
        return (self._ended or time.perf_counter()) - self._begun


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
        self._playing: set[asyncio.Task[Any]] = set()
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
        """Run to the end; errors as `result`."""
        playing = self.begin(play)
        self.wait(playing)
        return self.result(playing)

    def begin(self, play: Coroutine[Any, Any, T]) -> Playing[T]:
        """Begin to play. It goes on whenever something is waited for; after a signal it ends before it begins."""
        playing = Playing(self._loop, play)
        self._playing.add(playing.task)
        playing.task.add_done_callback(self._playing.discard)
        if self._signum is not None:
            playing.task.cancel()
        return playing

    def wait(self, playing: Playing[Any]) -> None:
        """Until it has ended, however it has."""
        ended = self._loop.create_future()  # no task, which a program that cancels all of them would end
        playing.task.add_done_callback(lambda _: ended.set_result(None))
        self._run(ended)
        gc.collect()  # the cycles that were left alone meanwhile, while there is hardly anything else to walk

    def result(self, playing: Playing[T]) -> T:
        """What became of it, once it has ended.

        Raises:
            Interrupted: Ctrl-C came first.
            WorkflowError: a user's program cancelled the play of all.
        """
        try:
            return playing.task.result().result()
        except asyncio.CancelledError:
            self.check()
            raise WorkflowError(
                "a program cancelled tasks that are not its own, and with them the play of all: "
                "asyncio.all_tasks() holds those of every episode"
            ) from None

    def beside(self, work: Callable[[], T]) -> T:
        """Do work in another thread while what was begun is played. A first signal lets the work be finished.

        Raises:
            BaseException: what the work raised.
        """
        result, is_over = Future[T](), self._loop.create_future()

        def act() -> None:
            try:
                result.set_result(work())
            except BaseException as error:  # it is the caller's, whatever it is
                result.set_exception(error)
            with suppress(RuntimeError):  # the loop is closed: a second signal has not waited
                self._loop.call_soon_threadsafe(is_over.set_result, None)

        threading.Thread(target=act, name="ajet-beside", daemon=True).start()
        self._run(is_over)
        return result.result()

    def _run(self, waiting: asyncio.Future[None]) -> None:
        """Run the loop until that is set."""
        patience = self._patience_s
        watched = nullcontext() if patience is None else ending_blocked_calls(self._loop, patience, self._say)
        with watched:
            self._loop.run_until_complete(waiting)

    def _on_signal(self, signum: int) -> None:
        if self._signum is not None:
            raise UserInterrupt(signum)
        self._signum = signum
        for task in list(self._playing):
            self._loop.call_soon_threadsafe(task.cancel)
