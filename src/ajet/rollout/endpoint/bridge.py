"""From any thread to models that live on the rollout's loop.

Engines, renderers and recorders belong to one event loop and are not touched from elsewhere. A bridge is one attempt at
an episode: it carries requests of the server's thread, or of an episode on a thread of its own, over to that loop. On
that loop itself it adds nothing, not even a turn. Once it is closed nothing passes, and what was under way is aborted.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from ajet.chat.delivery import Delivery
from ajet.chat.types import ChatModel, ChatReply, ChatRequest
from ajet.errors import EpisodeOverError

REFUSAL_S = 0.1
"""Before a request after the end of its episode is refused."""


class LoopBridge:
    """The way to one loop, for the time of one episode."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """`loop` is the one that the models live on."""
        self._loop = loop
        self._running: set[asyncio.Task[Any]] = set()
        self._over = False

    def bind(self, model: ChatModel) -> ChatModel:
        """The same model, usable from every loop and thread."""
        return _Bound(self, model)

    def close(self) -> None:
        """End it; call on the models' own loop."""
        self._over = True
        for task in self._running:
            task.cancel()

    async def chat(self, model: ChatModel, request: ChatRequest) -> ChatReply:
        """Ask the model on its loop.

        Raises:
            EpisodeOverError: the episode ended before the reply was there.
        """
        if self._over:
            # A program that was left behind may ask again and again, and must not keep its loop from all others.
            await asyncio.sleep(REFUSAL_S)
        self._check()
        if asyncio.get_running_loop() is self._loop:
            return await self._chat_there(model, request)
        delivery = request.delivery or Delivery()
        asked = self._chat_there(model, replace(request, delivery=delivery))
        reply = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asked, self._loop))
        if request.delivery is None:
            delivery.confirm()  # whoever awaited it here has not been cancelled meanwhile
        return reply

    async def _chat_there(self, model: ChatModel, request: ChatRequest) -> ChatReply:
        self._check()
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            return await model.chat(request)
        except asyncio.CancelledError:
            # Whoever waits for the reply was not cancelled and must learn why there is none.
            self._check()
            raise
        finally:
            self._running.discard(task)

    def _check(self) -> None:
        if self._over:
            raise EpisodeOverError("The episode is over: its models answer no more requests.")


class _Bound:
    def __init__(self, bridge: LoopBridge, model: ChatModel) -> None:
        self._bridge = bridge
        self._model = model

    async def chat(self, request: ChatRequest) -> ChatReply:
        return await self._bridge.chat(self._model, request)
