"""httpx without a socket: requests of a client in this process go straight to the handler, on the caller's loop."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx

from ajet.endpoint.handler import Handler

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
            return httpx.Response(answer.status, headers=answer.headers, content=answer.body)
        return httpx.Response(answer.status, headers=answer.headers, stream=_Events(answer.events))


class _Events(httpx.AsyncByteStream):
    def __init__(self, events: tuple[bytes, ...]) -> None:
        self._events = events

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for event in self._events:
            yield event
