"""Ends a call that blocks the rollouts' loop for good: the deadlines of episodes live on that loop and cannot.

A thread asks the loop for a sign of life. Where none comes for longer than any episode may take, it says which line
blocks and sends the main thread a signal, whose handler raises there: Python runs handlers amid a blocking call too (a
lock, a sleep, a socket), so the exception comes out of that call, in the program that made it, and counts as its
timeout. An engine in this process computes on that loop, too: a step that compiles kernels, or has a busy machine, is
nobody's mistake and gets far longer. Left out: calls in C that never look for signals, which are named all the same.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from traceback import FrameSummary
from types import FrameType

from ajet.config.user_code.lines import PACKAGE, user_place

SIGNAL = signal.SIGRTMIN + 11
"""One that nothing else is known to use."""
SECOND_LOOK_S = 0.5
ENGINES_SHARE = 10
"""So many times as long as a program's call a step of the engine may take."""
_ENGINES = f"{PACKAGE / 'engine'}/"


class BlockedError(BaseException):
    """Comes out of a call that blocked the loop. Not an `Exception`: a program's own handlers must let it through."""


@contextmanager
def ending_blocked_calls(
    loop: asyncio.AbstractEventLoop, patience_s: float, say: Callable[[str], None]
) -> Iterator[None]:
    """Watch a loop that runs on this thread meanwhile; off the main thread, which alone takes signals, do nothing.

    Args:
        loop: runs until the context ends.
        patience_s: for so long a call may hold up the loop, seconds; the engine `ENGINES_SHARE` times as long.
        say: takes a line on each call that is ended, and on an engine that is waited for.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    over, stuck = threading.Event(), threading.Event()

    def end_the_call(signum: int, frame: FrameType | None) -> None:
        # The loop may have moved since; and whoever debugs a program wants it to stand still.
        if stuck.is_set() and not over.is_set() and sys.gettrace() is None:
            raise BlockedError("ended after it had held up all episodes for too long")

    watching = threading.Thread(
        target=_watch, args=(loop, patience_s, say, over, stuck), name="ajet-watchdog", daemon=True
    )
    previous = signal.signal(SIGNAL, end_the_call)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()
        signal.signal(SIGNAL, previous)


def _watch(
    loop: asyncio.AbstractEventLoop,
    patience_s: float,
    say: Callable[[str], None],
    over: threading.Event,
    stuck: threading.Event,
) -> None:
    main = threading.main_thread().ident
    assert main is not None
    while not over.wait(patience_s / 4):
        alive = threading.Event()

        def sign_of_life(alive: threading.Event = alive) -> None:
            stuck.clear()
            alive.set()

        loop.call_soon_threadsafe(sign_of_life)
        looks = 0
        # Twice: while a process is stopped (Ctrl-Z), its clock runs on and its loop does not.
        while not alive.wait(patience_s) and not alive.wait(SECOND_LOOK_S) and not over.is_set():
            looks += 1
            frames = traceback.extract_stack(sys._current_frames()[main])
            is_engine = any(frame.filename.startswith(_ENGINES) for frame in frames)
            if is_engine and looks < ENGINES_SHARE:
                if looks == 1:
                    say(f"warning: {_told_of_engine(frames, patience_s)}; it goes on: it may compile, or lack a core")
                continue
            held_s = looks * patience_s
            what = _told_of_engine(frames, held_s) if is_engine else _told_of_call(frames, held_s)
            say(f"warning: {what}; it is ended")
            stuck.set()
            signal.pthread_kill(main, SIGNAL)


def _told_of_engine(frames: Sequence[FrameSummary], held_s: float) -> str:
    return f"the engine has held up all episodes for {held_s:g} s at {frames[-1].filename}:{frames[-1].lineno}"


def _told_of_call(frames: Sequence[FrameSummary], held_s: float) -> str:
    return (
        f"a blocking call has held up all episodes for {held_s:g} s at {user_place(frames)} (write execute as a plain "
        "function, which runs on a thread of its own)"
    )
