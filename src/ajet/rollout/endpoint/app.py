"""The handler as an ASGI application: bodies read within bounds, replies confirmed as they are sent, hang-ups noticed.

Knows no server and loads none. Every path is the handler's, so that unknown ones are answered in OpenAI's format too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, MutableMapping
from contextlib import suppress
from typing import Any

from ajet.rollout.endpoint.api_error import ApiError, too_large
from ajet.rollout.endpoint.handler import Handler
from ajet.rollout.endpoint.replies import Answer

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_DISCARDED = 4
"""Bodies' bounds that are read and dropped before a refusal: who is still sending reads no answer."""
_TURNS = 3
"""Of the loop, until a hang-up that has reached the socket has reached `receive`."""


class _HungUpError(Exception):
    """The client is gone: there is nobody to answer."""


def make_app(handler: Handler, *, max_body_bytes: int) -> App:
    """An ASGI application of HTTP alone: no lifespan, no websockets."""

    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        # Cancelled: the server is being stopped. Both ends are expected, and a server prints what leaves here.
        with suppress(_HungUpError, asyncio.CancelledError):
            await _send(await _answer(handler, scope, receive, max_body_bytes), send)

    return app


async def _answer(handler: Handler, scope: MutableMapping[str, Any], receive: Receive, max_body_bytes: int) -> Answer:
    headers = dict(scope["headers"])
    if b"transfer-encoding" in headers:
        # Chunks may be of one byte each, and a parser takes longer for a chunk than for a megabyte.
        refusal = ApiError(411, "Send the body with a Content-Length, not in chunks.", code="length_required")
        return Answer(status=refusal.status, body=refusal.body())
    authorization = headers.get(b"authorization", b"").decode("latin-1")
    incoming = _parts(receive)
    try:
        handler.session(authorization)  # nobody without a key gets a body kept
        body = await _read(incoming, max_body_bytes)
    except ApiError as error:
        await _discard(incoming, _DISCARDED * max_body_bytes)
        return Answer(status=error.status, body=error.body())
    answering = handler.answer(method=scope["method"], path=scope["path"], authorization=authorization, body=body)
    return await _unless_gone(receive, answering)


async def _parts(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _HungUpError
        more = message.get("more_body", False)
        yield message.get("body", b"")


async def _read(incoming: AsyncIterator[bytes], max_bytes: int) -> bytearray:
    """The body, kept no further than the bound.

    Raises:
        ApiError: 413.
    """
    body = bytearray()
    async for part in incoming:
        body += part
        if len(body) > max_bytes:
            raise too_large(max_bytes)
    return body


async def _discard(incoming: AsyncIterator[bytes], max_bytes: int) -> None:
    num_bytes = 0
    async for part in incoming:
        num_bytes += len(part)
        if num_bytes > max_bytes:
            return


async def _unless_gone(receive: Receive, answering: Coroutine[Any, Any, Answer]) -> Answer:
    """The answer; aborted or dropped, and so no call to train on, where the client hangs up before it is sent."""
    answer = asyncio.ensure_future(answering)
    gone = asyncio.ensure_future(_hang_up(receive))
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        if gone.done():
            raise _HungUpError
        return answer.result()
    finally:
        gone.cancel()
        answer.cancel()


async def _hang_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send(answer: Answer, send: Send) -> None:
    # Before the first byte leaves: with it the program may end its episode, on a thread that waits for nobody.
    answer.delivery.confirm()
    headers = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
    if answer.events is None:
        headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    for event in answer.events or ():
        await send({"type": "http.response.body", "body": event, "more_body": True})
    await send({"type": "http.response.body", "body": answer.body})
