"""The endpoint's application behind a socket: uvicorn on a thread and an event loop of their own.

A program that blocks its own thread therefore still gets its answers. Every connection carries one request and is
closed: a client that kept one in its pool would meet it again in another episode, on another event loop, and would
hold two descriptors while it thinks. Loads uvicorn; `endpoint.py` imports it only when a program asks for a URL.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from threading import Thread
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ajet.errors import ConfigError
from ajet.rollout.endpoint.app import App, over_sockets

log = logging.getLogger(__name__)

MOST_HEADER_BYTES = 64 * 1024
"""Of one request's line and headers together; more is a 400."""
_TOO_LONG = f"The request's line and headers are longer than {MOST_HEADER_BYTES} bytes."
_NUM_BETWEEN = len(": \r\n")
_ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_STOP_S = 5.0
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
_NO_DESCRIPTORS = (
    "this process has as many files open as it may (ulimit -n). Lower rollout.concurrency, or raise the limit."
)


class _OneRequest(HttpToolsProtocol):
    """A connection's only request. Its line and headers are bounded here, as httptools bounds nothing; uvicorn's other
    parser, h11, would, and takes three times as long."""

    _num_received = _num_parsed = 0
    _has_begun = False

    def data_received(self, data: bytes) -> None:
        """As uvicorn's; 400 for headers without end."""
        super().data_received(data)
        self._num_received += len(data)
        if self.cycle is None and self._num_received > MOST_HEADER_BYTES and not self.transport.is_closing():
            self.send_400_response(_TOO_LONG)

    def on_message_begin(self) -> None:
        """As uvicorn's; what is raised here and below becomes a 400, and with it the connection ends."""
        if self._has_begun:
            raise ValueError("a connection carries one request")
        self._has_begun = True
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """As uvicorn's."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """As uvicorn's."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def _count(self, num_bytes: int) -> None:
        self._num_parsed += num_bytes + _NUM_BETWEEN
        if self._num_parsed > MOST_HEADER_BYTES:
            raise ValueError(_TOO_LONG)


class EndpointServer:
    """Serves from its construction to `close`."""

    def __init__(self, app: App, *, host: str, port: int, setting: str = "endpoint.port") -> None:
        """`port` 0 takes any that is free; `setting` is what the user chose it by.

        Raises:
            ConfigError: the address cannot be bound, or too many files are open.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            # Listening from here on: a request that comes before the loop runs waits in the queue.
            self._socket = socket.create_server((host, port), family=family, backlog=1024)
            self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
            self._runner.get_loop()  # now: a failure on the thread would go unheard
        except OSError as error:
            if error.errno in _OUT_OF_DESCRIPTORS:
                raise ConfigError(f"The endpoint cannot start: {_NO_DESCRIPTORS}") from error
            raise ConfigError(
                f"endpoint.host={host} {setting}={port} cannot be served: {error.strerror or error}; choose another "
                f"{setting}, or 0 for any that is free"
            ) from error
        bound_port = self._socket.getsockname()[1]
        reachable = _ANY_HOST.get(host, host)
        self.origin = f"http://[{reachable}]:{bound_port}" if ":" in reachable else f"http://{reachable}:{bound_port}"
        """What every URL begins with."""
        self._server = uvicorn.Server(
            uvicorn.Config(
                over_sockets(app),
                http=_OneRequest,
                ws="none",
                headers=[("connection", "close")],
                server_header=False,
                date_header=False,
                proxy_headers=False,  # nothing here depends on where a client is
                lifespan="off",
                log_config=None,
                log_level="critical",  # what clients send is theirs to read in their answers, not the run's to print
                access_log=False,
                timeout_graceful_shutdown=1,
            )
        )
        self._told_out_of_descriptors = False
        self._thread = Thread(target=self._run, name=f"ajet {setting}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving; open connections are dropped."""
        self._server.should_exit = True
        self._thread.join(_STOP_S)
        self._socket.close()

    def _run(self) -> None:
        with self._runner as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        asyncio.get_running_loop().set_exception_handler(self._on_loop_error)
        await self._server.serve(sockets=[self._socket])

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """asyncio tries again a second after it could not accept a connection, with a traceback each time; those tries
        that are left when the server has closed its socket fail on that."""
        error = context.get("exception")
        if self._server.should_exit:
            return
        if not isinstance(error, OSError) or error.errno not in _OUT_OF_DESCRIPTORS:
            loop.default_exception_handler(context)
        elif not self._told_out_of_descriptors:
            self._told_out_of_descriptors = True
            log.warning("The endpoint cannot take a connection for now, and requests wait: %s", _NO_DESCRIPTORS)
