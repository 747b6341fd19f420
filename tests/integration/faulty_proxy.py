"""An HTTP proxy that passes requests on and does, where told to, what a network and a busy server do.

In: requests of a client. Out: the server's own answers, but for faults, each of which holds for one path and some
requests: another status, no answer at all, a connection that is cut before or after the server has had the request, a
slow answer. What reached the proxy and what reached the server are counted apart.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import httpx

NOT_PASSED_ON = {"host", "connection", "content-length", "transfer-encoding", "content-encoding", "accept-encoding"}


@dataclass(kw_only=True)
class Fault:
    """What happens to the next requests of one path."""

    path: str
    """The last word of it, e.g. `optim_step`."""
    times: int = 1
    """How many requests; a large number for all."""
    status: int | None = None
    """Answer this, without asking the server."""
    headers: Mapping[str, str] = field(default_factory=dict)
    hangs_s: float = 0
    """Seconds without an answer, after which the connection is cut."""
    slow_s: float = 0
    """Seconds before the server's own answer is passed on."""
    cut_before: bool = False
    """Cut the connection; the server knows nothing of the request."""
    cut_after: bool = False
    """Cut the connection when the server has answered: it has done what it was asked for."""


class FaultyProxy:
    """Listens on 127.0.0.1 while it is entered."""

    def __init__(self, server_url: str) -> None:
        """Pass on to this server, without faults at first."""
        self.server_url = server_url
        self.faults: list[Fault] = []
        self.came: Counter[str] = Counter()
        self.passed: Counter[str] = Counter()
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                proxy._handle(self)

            def do_POST(self) -> None:
                proxy._handle(self)

            def log_message(self, *_words: Any) -> None:
                """Nothing is printed."""

        self._listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._listener.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._listener.server_address[1]}"
        self._client = httpx.Client(timeout=300, trust_env=False, limits=httpx.Limits(max_connections=200))

    def __enter__(self) -> Self:
        """Itself, listening."""
        threading.Thread(target=self._listener.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        """Listen no more."""
        self._listener.shutdown()
        self._listener.server_close()
        self._client.close()

    def injects(self, *faults: Fault) -> None:
        """These faults, in place of those before; counts begin anew."""
        with self._lock:
            self.faults = list(faults)
            self.came.clear()
            self.passed.clear()

    def _fault(self, path: str) -> Fault | None:
        with self._lock:
            self.came[path] += 1
            for fault in self.faults:
                if fault.path == path and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0].rstrip("/").rpartition("/")[2]
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        fault = self._fault(path)
        if fault is not None and fault.hangs_s:
            time.sleep(fault.hangs_s)
        if fault is not None and (fault.cut_before or fault.hangs_s):
            return self._cut(request)
        if fault is not None and fault.status is not None:
            return self._answer(request, fault.status, dict(fault.headers), b'{"detail": "as told"}')
        kept = {name: value for name, value in request.headers.items() if name.lower() not in NOT_PASSED_ON}
        answer = self._client.request(request.command, self.server_url + request.path, content=body, headers=kept)
        with self._lock:
            self.passed[path] += 1
        if fault is not None and fault.cut_after:
            return self._cut(request)
        time.sleep(fault.slow_s if fault is not None else 0)
        told = {name: value for name, value in answer.headers.items() if name.lower() not in NOT_PASSED_ON}
        return self._answer(request, answer.status_code, told, answer.content)

    @staticmethod
    def _cut(request: BaseHTTPRequestHandler) -> None:
        request.close_connection = True

    @staticmethod
    def _answer(request: BaseHTTPRequestHandler, status: int, headers: Mapping[str, str], body: bytes) -> None:
        with suppress(ConnectionError):  # whoever asked waits no longer
            request.send_response(status)
            for name, value in headers.items():
                if name.lower() not in {"date", "server"}:
                    request.send_header(name, value)
            request.send_header("Content-Length", str(len(body)))
            request.end_headers()
            request.wfile.write(body)
