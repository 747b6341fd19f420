"""An episode on a thread and an event loop of its own, so that a program which blocks there holds up nobody.

In: a coroutine function. Out: its result on the loop that asked, or its exception. A thread cannot be killed:
on cancellation its coroutine is cancelled, and if it is blocked right then it is left behind; its models have stopped
answering by then, and as a daemon it does not keep the process alive.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from ajet.rollout.event_loop import episode_loop

T = TypeVar("T")


async def run_on_own_thread(program: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run it there and wait for it here.

    Raises:
        RuntimeError: the program cancelled itself.
        BaseException: whatever the program raised.
    """
    return await _OwnThread(program).result()


class _OwnThread(Generic[T]):
    def __init__(self, program: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._program = program
        self._asking = asyncio.get_running_loop()
        self._done: asyncio.Future[T] = self._asking.create_future()
        self._lock = threading.Lock()
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self._unwanted = False

    async def result(self) -> T:
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._run,), name="ajet-episode", daemon=True).start()
        try:
            return await self._done
        except asyncio.CancelledError:
            self._cancel()
            raise

    def _cancel(self) -> None:
        """From the asking loop's thread."""
        with self._lock:
            self._unwanted = True
            if self._running is not None:
                loop, task = self._running
                loop.call_soon_threadsafe(task.cancel)

    def _run(self) -> None:
        """The thread. Hands the result over before its loop is torn down, which may take its time."""
        with asyncio.Runner(loop_factory=episode_loop) as runner:
            try:
                result = runner.run(self._watched())
            except asyncio.CancelledError:
                self._hand_over(lambda done: done.set_exception(RuntimeError("the program cancelled itself")))
            except BaseException as error:
                # Even SystemExit: who asked is to meet it as if the program had run there.
                raised = error
                self._hand_over(lambda done: done.set_exception(raised))
            else:
                self._hand_over(lambda done: done.set_result(result))

    async def _watched(self) -> T:
        task = asyncio.current_task()
        assert task is not None
        with self._lock:
            if self._unwanted:
                raise asyncio.CancelledError
            self._running = asyncio.get_running_loop(), task
        try:
            return await self._program()
        finally:
            with self._lock:
                self._running = None

    def _hand_over(self, settle: Callable[[asyncio.Future[T]], None]) -> None:
        def unless_abandoned() -> None:
            if not self._done.done():
                settle(self._done)

        with self._lock:
            if self._unwanted:
                return  # the asking loop may be closed by now
        self._asking.call_soon_threadsafe(unless_abandoned)
