"""A program on a thread of its own, with an event loop where it needs one: if it blocks there, it holds up nobody.

In: a function, plain or asynchronous. Out: its result on the loop that asked, or its exception. A thread cannot be
killed: on cancellation its coroutine is cancelled, and one that is blocked or not asynchronous runs on until it ends by
itself. Its models have stopped answering by then, and as a daemon it does not keep the process alive.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Callable
from typing import Any

from ajet.rollout.boundary import Ended, contained
from ajet.rollout.event_loop import ContainedLoop, episode_loop

CLOSING_S = 5.0
"""For what a program has left running on its thread's loop."""


async def run_on_own_thread(program: Callable[[], Any]) -> Any:
    """Run it there and wait for it here; on cancellation, too, until it has ended or nobody waits any more.

    Raises:
        BaseException: whatever the program raised.
    """
    return await _OwnThread(program).result()


class _OwnThread:
    def __init__(self, program: Callable[[], Any]) -> None:
        self._program = program
        self._asking = asyncio.get_running_loop()
        self._done: asyncio.Future[Ended[Any]] = self._asking.create_future()
        self._lock = threading.Lock()
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self._unwanted = False

    async def result(self) -> Any:
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._run,), name="ajet-episode", daemon=True).start()
        try:
            await asyncio.wait({self._done})
        except asyncio.CancelledError:
            self._cancel()
            await asyncio.wait({self._done})
            raise
        return self._done.result().result()

    def _cancel(self) -> None:
        """From the asking loop's thread."""
        with self._lock:
            self._unwanted = True
            if self._running is not None:
                loop, task = self._running
                loop.call_soon_threadsafe(task.cancel)

    def _run(self) -> None:
        """The thread. Hands the result over before its loop is torn down, which may take its time."""
        try:
            loop = episode_loop()
        except OSError as error:  # too many files are open
            self._hand_over(Ended(error=error))
            return
        asyncio.set_event_loop(loop)  # for plain functions that drive a loop themselves
        try:
            self._hand_over(self._ended(loop))
        finally:
            loop.close_within(CLOSING_S)

    def _ended(self, loop: ContainedLoop) -> Ended[Any]:
        try:
            # A plain function does all its work here, outside of any running loop, so that it may run one itself.
            made = self._program()
        except BaseException as error:  # the boundary to code that users write
            return Ended(error=error)
        if not inspect.isawaitable(made):
            return Ended(value=made)
        task = loop.create_task(contained(lambda: made))
        with self._lock:
            if self._unwanted:
                task.cancel()
            self._running = loop, task
        try:
            return loop.run_until_complete(task)
        except asyncio.CancelledError as error:  # before its first step
            return Ended(error=error)
        finally:
            with self._lock:
                self._running = None

    def _hand_over(self, ended: Ended[Any]) -> None:
        def unless_abandoned() -> None:
            if not self._done.done():
                self._done.set_result(ended)

        try:
            self._asking.call_soon_threadsafe(unless_abandoned)
        except RuntimeError:
            return  # the asking loop is closed: the run was over before this program
