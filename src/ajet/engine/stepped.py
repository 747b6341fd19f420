"""What batching engines share: many coroutines wait on one model that is stepped on their own event loop.

In: sampling requests from coroutines. Out: their completions, as the subclass's `_step` finishes them.
No thread and no timer takes part, so one program gives the same batches, and the same results, every time.
Left out on purpose: fairness and priorities. Requests start in order of arrival.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ajet.engine.base import SamplingRequest
from ajet.errors import EngineError, EngineLostError
from ajet.records import Completion

if TYPE_CHECKING:
    from torch import Tensor

QUIET_YIELDS = 8
"""Turns of the event loop without a new request after which a batch counts as complete. An agent needs a
few turns from a reply to its next request; a turn costs microseconds, a small batch a whole model step."""


@contextmanager
def torch_threads(num_threads: int | None) -> Iterator[None]:
    """Run with that many torch threads, then give the caller its own count back; None changes nothing."""
    if num_threads is None:
        yield
        return
    import torch  # not above: engines' configurations stand beside them, and `--help` loads those

    previous = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(previous)


class SteppedEngine(ABC):
    """An engine whose model advances all running requests by one token at a time."""

    def __init__(self, *, max_context: int, num_threads: int | None) -> None:
        self.max_context = max_context
        self.policy_version = 0
        self._num_threads = num_threads
        self._waiting: dict[int, asyncio.Future[Completion]] = {}
        self._num_requests = 0
        self._pump: asyncio.Task[None] | None = None
        self._unusable: str | None = None

    @abstractmethod
    def _add(self, key: int, request: SamplingRequest, max_tokens: int) -> None:
        """Queue a request that may sample up to `max_tokens` ids."""

    @abstractmethod
    def _step(self) -> list[tuple[int, Completion]]:
        """Advance the model by one step; return what finished, by key."""

    @abstractmethod
    def _abort(self, key: int) -> None:
        """Forget an unfinished request."""

    @abstractmethod
    def _load(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Put new weights in place; nothing is running."""

    async def generate(self, request: SamplingRequest) -> Completion:
        """See `Engine.generate`."""
        max_tokens = request.budget(self.max_context)
        if self._unusable is not None:
            raise EngineLostError(self._unusable)
        loop = asyncio.get_running_loop()
        key = self._num_requests
        self._num_requests += 1
        self._add(key, request, max_tokens)
        future: asyncio.Future[Completion] = loop.create_future()
        self._waiting[key] = future
        if self._pump is None:
            self._pump = loop.create_task(self._run())
        try:
            return await future
        except asyncio.CancelledError:
            # Absent where the model finished it, or failed, in the same turn as the cancellation.
            if self._waiting.pop(key, None) is not None:
                self._abort(key)
            raise

    def update_weights(self, weights: Iterable[tuple[str, Tensor]], policy_version: int) -> None:
        """See `Engine.update_weights`.

        Raises:
            EngineError: requests are running, the engine failed before, or the weights do not fit the model.
        """
        if self._unusable is not None:
            raise EngineLostError(self._unusable)
        if self._waiting:
            raise EngineError(f"weights cannot change while {len(self._waiting)} requests are running")
        self._load(weights)
        self.policy_version = policy_version

    def close(self) -> None:
        """Free what the engine holds; whoever still waits gets an `EngineLostError`."""
        self._fail("the engine was closed")

    async def _run(self) -> None:
        """Step while anyone waits. Ends with the last request; the next one starts it anew."""
        try:
            while self._waiting:
                await self._gather_requests()
                if self._waiting:
                    with torch_threads(self._num_threads):
                        finished = self._step()
                    for key, completion in finished:
                        future = self._waiting.pop(key)
                        if not future.done():
                            future.set_result(completion)
        except asyncio.CancelledError:  # between steps, by whoever closes the loop
            raise
        except BaseException as error:
            # The boundary to a library's model: its state is unknown now, so it is not stepped again. The watchdog's
            # signal may have ended a step, too; all that wait are told, and only what ends the process is passed on.
            self._fail(f"the sampling engine failed ({type(error).__name__}: {error})", error)
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
        finally:
            self._pump = None

    async def _gather_requests(self) -> None:
        loop = asyncio.get_running_loop()
        quiet = 0
        while quiet < QUIET_YIELDS:
            num_before = self._num_requests
            await asyncio.sleep(0)
            quiet = quiet + 1 if self._num_requests == num_before else 0
            if quiet and _nothing_left_to_run(loop):
                break  # most steps finish no request: turns without anybody in them took a twentieth of a small model's

    def _fail(self, message: str, cause: BaseException | None = None) -> None:
        self._unusable = message
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                error = EngineLostError(message)
                error.__cause__ = cause
                future.set_exception(error)


def _nothing_left_to_run(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether turns of the loop would pass idly until a timer, a socket or a thread wakes somebody; asked by a task
    on it, which counts for nothing itself."""
    if not isinstance(loop, asyncio.BaseEventLoop):
        return False  # another library's, which cannot be asked
    timers = loop._scheduled  # type: ignore[attr-defined]
    return not loop._ready and not (timers and timers[0].when() <= loop.time())  # type: ignore[attr-defined]
