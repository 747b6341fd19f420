"""The handler behind a socket: FastAPI and uvicorn on a thread and an event loop of their own.

A program that blocks its own thread therefore still gets its answers. Loads FastAPI; `endpoint.py` imports it only when
somebody asks for a URL.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Coroutine, Iterable
from threading import Thread
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from ajet.endpoint.api_error import ApiError, too_large
from ajet.endpoint.handler import Handler
from ajet.endpoint.replies import Answer
from ajet.errors import ConfigError

_ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_STOP_S = 5.0


class EndpointServer:
    """Serves from its construction to `close`."""

    def __init__(self, handler: Handler, *, host: str, port: int, max_body_bytes: int) -> None:
        """`port` 0 takes any that is free.

        Raises:
            ConfigError: the address cannot be bound.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            # Listening from here on: a request that comes before the loop runs waits in the queue.
            self._socket = socket.create_server((host, port), family=family, backlog=1024)
        except OSError as error:
            raise ConfigError(
                f"endpoint.host={host} endpoint.port={port} cannot be served: {error.strerror or error}; "
                "choose endpoint.port=0 for any free port"
            ) from error
        bound_port = self._socket.getsockname()[1]
        reachable = _ANY_HOST.get(host, host)
        self.base_url = (
            f"http://[{reachable}]:{bound_port}/v1" if ":" in reachable else (f"http://{reachable}:{bound_port}/v1")
        )
        """What clients are given."""
        self._server = uvicorn.Server(
            uvicorn.Config(
                make_app(handler, max_body_bytes=max_body_bytes),
                lifespan="off",
                log_config=None,
                log_level="warning",
                access_log=False,
                # A pooled connection that the server closes first looks like a failure to a client that just reuses it.
                timeout_keep_alive=3600,
                timeout_graceful_shutdown=1,
            )
        )
        self._thread = Thread(target=self._run, name="ajet-endpoint", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving; open connections are dropped."""
        self._server.should_exit = True
        self._thread.join(_STOP_S)
        self._socket.close()

    def _run(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._socket]))


def make_app(handler: Handler, *, max_body_bytes: int) -> FastAPI:
    """One route that leaves every path to the handler, so that unknown ones are answered in OpenAI's format too."""
    app = FastAPI(title="ajet", openapi_url=None)

    @app.api_route("/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    async def serve(request: Request) -> Response:
        authorization = request.headers.get("authorization")
        try:
            handler.session(authorization)  # nobody without a key gets a body read
            body = await _read(request, max_body_bytes)
        except ApiError as error:
            return _response(Answer(status=error.status, body=error.body()))
        answer = await _unless_gone(
            request,
            handler.answer(method=request.method, path=request.url.path, authorization=authorization, body=body),
        )
        return _response(answer)

    return app


async def _read(request: Request, max_bytes: int) -> bytes:
    """The body, read no further than the bound."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > max_bytes:
            raise too_large(max_bytes)
    return bytes(body)


async def _unless_gone(request: Request, answering: Coroutine[Any, Any, Answer]) -> Answer:
    """The answer; aborted, and so not recorded, where the client hangs up while it is being sampled."""
    answer = asyncio.ensure_future(answering)
    gone = asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        return Answer(status=499)
    finally:
        gone.cancel()
        answer.cancel()


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _response(answer: Answer) -> Response:
    if answer.events is None:
        return Response(answer.body, status_code=answer.status, headers=answer.headers)
    return StreamingResponse(_each(answer.events), status_code=answer.status, headers=answer.headers)


async def _each(events: Iterable[bytes]) -> AsyncIterator[bytes]:
    # An iterator that is not asynchronous would be stepped on a pool of threads.
    for event in events:
        yield event
