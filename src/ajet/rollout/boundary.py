"""The boundary to code that users write: whatever it raises, swallows or blocks on stays on its own side.

In: a program as a coroutine function, and its deadline. Out: how it ended, as data. Nothing but the user's own
interrupt and the cancellation of whoever waits comes out as an exception: asyncio would let `SystemExit` and
`KeyboardInterrupt` end the whole loop, and would take a user's `CancelledError` for its own.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ajet.errors import UserInterrupt

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramResult(Generic[T]):
    """How a program ended: with a value, with an exception of any kind, or too late."""

    value: T | None = None
    error: BaseException | None = None
    at: float = field(default_factory=time.monotonic)
    """When, on the monotonic clock."""
    is_late: bool = False
    """Whether the deadline had passed; value and error are then not to be used."""
    is_left_behind: bool = False
    """Whether it was still running when the run no longer waited for it."""
    blocked_s: float = 0.0
    """How long after the deadline the loop first looked: so long something had blocked it."""

    def result(self) -> T:
        """The value of a program that was not late.

        Raises:
            BaseException: what the program raised.
        """
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]


async def run_isolated(program: Callable[[], Awaitable[T]]) -> ProgramResult[T]:
    """Run a program to its end here, whatever that is.

    Raises:
        UserInterrupt: the user's second Ctrl-C.
    """
    process = os.getpid()
    try:
        ended = ProgramResult(value=await program())
    except UserInterrupt:
        raise
    except BaseException as error:  # the boundary: SystemExit, CancelledError and the rest are data, too
        ended = ProgramResult(error=error)
    if os.getpid() != process:
        # A child that the program has forked: it would go through the rest of the run as a second trainer.
        os._exit(_exit_code(ended.error))
    return ended


def _exit_code(error: BaseException | None) -> int:
    """What Python would exit with."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return int(error is not None)


async def run_within(
    program: Callable[[], Awaitable[T]],
    *,
    timeout_s: float,
    grace_s: float,
    on_deadline: Callable[[], None],
    held_up_s: Callable[[], float] = lambda: 0.0,
) -> ProgramResult[T]:
    """Run a program in a task of its own, for so long and no longer.

    Args:
        program: what to run.
        timeout_s: then it is cancelled. A call that blocks the loop cannot be: it counts as late once it is over.
        grace_s: so long it may take to end after that; then it is left behind.
        on_deadline: called before it is cancelled, to wake what it may be blocked on.
        held_up_s: seconds so far that do not count; the deadline moves by those of the meantime.

    Raises:
        asyncio.CancelledError: whoever waits here was cancelled, and the program with it.
    """
    start = time.monotonic() - held_up_s()

    def deadline() -> float:
        return start + held_up_s() + timeout_s

    task = asyncio.get_running_loop().create_task(run_isolated(program))
    try:
        while not task.done() and (left_s := deadline() - time.monotonic()) > 0:
            await asyncio.wait({task}, timeout=left_s)
    except asyncio.CancelledError:
        await _cancelled_within(task, grace_s, on_deadline)
        raise
    if task.done():
        ended = ProgramResult[T](error=asyncio.CancelledError()) if task.cancelled() else task.result()
        if ended.at <= deadline():
            return ended
    blocked_s = time.monotonic() - deadline()
    is_over = await _cancelled_within(task, grace_s, on_deadline)
    return ProgramResult(is_late=True, is_left_behind=not is_over, blocked_s=blocked_s)


async def _cancelled_within(task: asyncio.Task[Any], grace_s: float, on_deadline: Callable[[], None]) -> bool:
    """Cancel; returns whether that ended it."""
    if task.done():
        return True
    on_deadline()
    task.cancel()
    await asyncio.wait({task}, timeout=grace_s)
    if task.done():
        return True
    _abandon(task)
    return False


def _abandon(task: asyncio.Task[Any]) -> None:
    """Leave a program that continues after its cancellation to itself, on the loop, until it ends or the process does.

    Python frees a forgotten coroutine by throwing GeneratorExit into it, perhaps on no loop, where waiting raises at
    once: a program that swallows everything would never return from that. So this one is not freed before its end.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(task))
    task.add_done_callback(_ended_after_all)


def _ended_after_all(task: asyncio.Task[Any]) -> None:
    ctypes.pythonapi.Py_DecRef(ctypes.py_object(task))
    if not task.cancelled():
        task.exception()  # or asyncio complains at the end about one that no one asked for
