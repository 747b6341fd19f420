"""The signals by which a user or a system asks a process to end in good order, and who hears of them meanwhile.

Python runs signal handlers on the main thread alone. Work that another thread does for it, as in a notebook, hears of
them through a `Relay`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from types import FrameType
from typing import TypeVar

from ajet.errors import InterruptedEarlyError, UserInterrupt

T = TypeVar("T")

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SIGNAL_WAIT_S = 0.2
"""Most seconds until a signal is heard while another thread works."""


@contextmanager
def ending_signals(handle: Callable[[int], None]) -> Iterator[None]:
    """Let `handle` hear of Ctrl-C, SIGTERM and SIGHUP, and give them back afterwards.

    Off the main thread, where Python lets no code handle signals, `handle` hears what the thread's relay brings, if it
    has one; `nohup` is respected. A process that a library forks off meanwhile ends as it would have without us, or
    whoever terminates it would wait for good.
    """
    if threading.current_thread() is not threading.main_thread():
        relay = _relay.get()
        if relay is None:
            yield
        else:
            with relay.heard_by(handle):
                yield
        return
    process = os.getpid()

    def on_signal(signum: int, frame: FrameType | None) -> None:
        if os.getpid() == process:
            handle(signum)
            return
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)

    handled = [s for s in ENDING_SIGNALS if s != signal.SIGHUP or signal.getsignal(s) is not signal.SIG_IGN]
    previous = {signum: signal.signal(signum, on_signal) for signum in handled}
    try:
        yield
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)


@contextmanager
def held_back() -> Iterator[None]:
    """Around the import of a library whose C++ calls Python: what a signal handler raised there would abort it all.

    A signal is heard once the block is over, a second one at once.
    """
    heard: list[int] = []

    def handle(signum: int) -> None:
        heard.append(signum)
        if len(heard) > 1:
            raise UserInterrupt(signum)

    with ending_signals(handle):
        yield
    if heard:
        signal.raise_signal(heard[0])


@contextmanager
def beginning(first: str, done: str) -> Iterator[None]:
    """Around what comes before a run's first step: a signal that ends it there is one sentence.

    Args:
        first: what would have come, e.g. `step`.
        done: what would have been done, e.g. `trained`.

    Raises:
        InterruptedEarlyError: it was interrupted.
    """
    try:
        yield
    except UserInterrupt as stop:
        raise InterruptedEarlyError(interrupted_before(first, done), stop.signum) from None


def interrupted_before(first: str, done: str) -> str:
    """The sentence on a command that was interrupted before it began; arguments as `beginning`."""
    return f"interrupted before the first {first}; nothing was {done}"


class Relay:
    """Brings the signals that the main thread hears to the work that another thread does for it."""

    def __init__(self) -> None:
        """Nobody listens yet."""
        self._handlers: list[Callable[[int], None]] = []
        self._thread: int | None = None

    @contextmanager
    def heard_by(self, handle: Callable[[int], None]) -> Iterator[None]:
        """On the working thread: the innermost handler hears of signals, as on a main thread."""
        self._thread = threading.get_ident()
        self._handlers.append(handle)
        try:
            yield
        finally:
            self._handlers.pop()

    def send(self, signum: int) -> None:
        """On the main thread. What the handler raises comes out of whatever the working thread does."""
        if not self._handlers:
            return  # the work begins or ends at this moment; whoever means it asks again
        try:
            self._handlers[-1](signum)
        except UserInterrupt:
            if self._thread is not None:
                # The one way to end another thread's Python code; it takes a class, so that the signal's number is
                # lost, which matters to exit codes alone.
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self._thread), ctypes.py_object(UserInterrupt)
                )


_relay: ContextVar[Relay | None] = ContextVar("relay", default=None)


def run_on_own_thread(work: Callable[[], T]) -> T:
    """Do the work on a thread of its own and wait for it: where an event loop runs, no second one can.

    Raises:
        BaseException: what the work raised.
    """
    relay, done = Relay(), Future[T]()

    def run() -> None:
        _relay.set(relay)
        try:
            done.set_result(work())
        except BaseException as error:  # it is the caller's, whatever it is
            done.set_exception(error)

    # A copy of the context: a notebook finds by it the cell that output belongs to.
    thread = threading.Thread(target=copy_context().run, args=(run,), name="ajet-call", daemon=True)
    with ending_signals(relay.send):
        thread.start()
        while thread.is_alive():
            # Again and again: Python handles a signal that comes just before a wait begins only when that wait is over.
            thread.join(SIGNAL_WAIT_S)
    return done.result()
