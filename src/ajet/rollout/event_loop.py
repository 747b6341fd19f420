"""Event loops that outlive what users' code raises in them: the rollouts', on which they repeat exactly, and that of
an episode on a thread of its own.

Agents and the engine share one thread, so the order of everything is that of the loop's ready queue, and depends
on no clock, except where a program sleeps: AgentScope's ReActAgent sleeps a millisecond after every reply, and
which requests meet in one batch would then depend on the machine's mood. Sleeps shorter than ten milliseconds only
mean "let others run", and here do just that.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple

from ajet.errors import UserInterrupt

_MOMENT_S = 0.01
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class IsolatedEventLoop(asyncio.SelectorEventLoop):
    """A selector loop that no code running on it can end.

    asyncio lets `SystemExit` and `KeyboardInterrupt` of any task or callback fall through the loop and end the run,
    even of a task that a user's program has started beside itself. The task keeps the exception for whoever awaits
    it, so nothing is lost when the loop simply keeps running; only the user's own interrupt passes.
    """

    _is_made = False

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        """As asyncio's.

        Raises:
            OSError: too many files are open.
        """
        super().__init__(selector)
        self._stop_asked = False
        self._is_made = True

    def __del__(self) -> None:
        """As asyncio's, which would close what a loop that could not be made never had."""
        if self._is_made:
            super().__del__()

    def stop(self) -> None:
        """As asyncio's."""
        self._stop_asked = True  # asyncio's own flag is lost when an exception leaves `run_forever`
        super().stop()

    def run_forever(self) -> None:
        """As asyncio's, save for what passes through."""
        while True:
            try:
                super().run_forever()
                break
            except UserInterrupt:
                raise
            except (SystemExit, KeyboardInterrupt):
                if self._stop_asked:
                    break
        self._stop_asked = False

    def run_until_complete(self, future: Awaitable[T]) -> T:  # type: ignore[override]
        """As asyncio's; a program that stops the loop stops nothing."""
        task = asyncio.ensure_future(future, loop=self)
        # asyncio does not stop for a task that ends in `SystemExit`: it counts on that having ended the loop.
        task.add_done_callback(lambda _: self.stop())
        while True:
            try:
                return super().run_until_complete(task)
            except RuntimeError:
                if task.done() or self.is_running() or self.is_closed():
                    raise

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """As asyncio's, without its word on tasks that end by being forgotten: what was left behind ends so."""
        if context.get("message") != "Task was destroyed but it is pending!":
            super().call_exception_handler(context)

    def close_within(self, seconds: float) -> None:
        """Cancel what is left and close, without waiting for tasks or executor threads that will not end."""
        if self.is_closed():
            return  # by the program that drove it
        left = asyncio.all_tasks(self)
        for task in left:
            task.cancel()
        # Nobody is left to hear of what fails from here on.
        self.set_exception_handler(lambda loop, context: None)
        if left:
            self.run_until_complete(asyncio.wait(left, timeout=seconds))
        self.run_until_complete(asyncio.wait({self.create_task(self.shutdown_asyncgens())}, timeout=seconds))
        self.close()


class RolloutLoop(IsolatedEventLoop):
    """A contained loop whose momentary timers fire on its next turn."""

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As asyncio's, with delays under ten milliseconds counted as none."""
        return super().call_later(delay if delay >= _MOMENT_S else 0.0, callback, *args, context=context)


class EpisodeLoop(IsolatedEventLoop):
    """A loop for one episode, of which a run may have hundreds: it holds a single descriptor."""

    def __init__(self) -> None:
        """As asyncio's.

        Raises:
            OSError: too many files are open.
        """
        super().__init__(selectors.PollSelector())  # watches its few sockets without a descriptor of its own

    def _make_self_pipe(self) -> None:
        """What other threads wake it with: a datagram socket that sends to itself, where asyncio takes a pair."""
        waking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            waking.setblocking(False)
            waking.bind(("127.0.0.1", 0))
            waking.connect(waking.getsockname())  # from now on it hears nobody else
        except OSError:
            waking.close()
            raise
        self._ssock = self._csock = waking
        self._internal_fds = 1
        self._add_reader(waking, self._read_from_self)  # type: ignore[attr-defined]
