"""httpx without a socket: requests of a client in this process go straight to the handler, on the caller's loop."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx

from ajet.rollout.endpoint.handler import Handler
from ajet.rollout.endpoint.replies import Answer

BASE_URL = "http://ajet.invalid/v1"
"""A base URL for such clients; the host is never looked up (RFC 2606)."""


class InProcessTransport(httpx.AsyncBaseTransport):
    """Answers an `httpx.AsyncClient` from a handler."""

    def __init__(self, handler: Handler) -> None:
        """`handler` also answers the server."""
        self._handler = handler

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One request; see httpx."""
        answer = await self._handler.answer(
            method=request.method,
            path=request.url.path,
            authorization=request.headers.get("authorization"),
            body=await request.aread(),
        )
        if answer.events is None:
            answer.delivery.confirm()  # nothing waits between here and the program
            return httpx.Response(answer.status, headers=answer.headers, content=answer.body)
        return httpx.Response(answer.status, headers=answer.headers, stream=_Events(answer))


class _Events(httpx.AsyncByteStream):
    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert self._answer.events is not None
        self._answer.delivery.confirm()
        for event in self._answer.events:
            yield event
