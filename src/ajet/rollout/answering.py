"""Requests from any event loop and thread, answered on the models' own until their episode ends.

In: a request, and what to await for its reply. Out: the reply, to whoever waits on whichever loop; a cancellation goes
the other way, and the end of the episode cancels all that is under way. Left out: what an answer is (`agent_model`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from ajet.chat.types import ChatReply, ChatRequest, Delivery
from ajet.errors import EpisodeOverError

T = TypeVar("T")

REFUSAL_S = 0.1
"""Seconds before a request after the end of its episode is refused."""


class AnsweringLoop:
    """Where one episode's requests are answered."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """`loop` is the models' own, None where there is but one."""
        self.is_closed = False
        self._loop = loop
        self._answering: set[asyncio.Task[Any]] = set()

    def close(self) -> None:
        """End it: nothing is answered any more, and what is being answered is aborted. Call on the models' own loop."""
        self.is_closed = True
        for task in self._answering:
            task.cancel()

    def call(self, effect: Callable[[], T]) -> T:
        """Call `effect` on the models' loop, behind all that was handed over so far, and wait for it; for programs on a
        thread of their own, too.

        Raises:
            EpisodeOverError: the episode has ended.
        """
        self._check_running()
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if self._loop in (None, running):
            return effect()

        async def called() -> T:
            self._check_running()
            return effect()

        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(called(), self._loop).result()

    async def answer(self, ask: Callable[[ChatRequest], Any], request: ChatRequest) -> ChatReply:
        """Await `ask(request)` on the models' loop. On that loop itself this adds nothing, not even a turn.

        Raises:
            EpisodeOverError: the episode ended before the reply was there.
        """
        if self.is_closed:
            # A program that was left behind may ask again and again, and must not keep its loop from all others.
            await asyncio.sleep(REFUSAL_S)
        self._check_running()
        if self._loop in (None, asyncio.get_running_loop()):
            return await self._answer_here(ask, request)
        # Not anyio's BlockingPortal: it lets SystemExit and KeyboardInterrupt of one opponent through to its task
        # group, which then cancels the calls of all, and it ends only once they have ended. Here each call is alone.
        delivery = request.delivery or Delivery()
        asked = self._answer_here(ask, replace(request, delivery=delivery))
        assert self._loop is not None
        reply = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asked, self._loop))
        if request.delivery is None:
            delivery.confirm()  # whoever awaits it here has not been cancelled meanwhile
        return reply

    async def _answer_here(self, ask: Callable[[ChatRequest], Any], request: ChatRequest) -> ChatReply:
        self._check_running()
        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        try:
            reply: ChatReply = await ask(request)
            return reply
        except asyncio.CancelledError:
            # Whoever waits for the reply was not cancelled and must learn why there is none.
            self._check_running()
            raise
        finally:
            self._answering.discard(task)

    def _check_running(self) -> None:
        if self.is_closed:
            raise EpisodeOverError("The episode is over: its models answer no more requests.")
