"""One of vLLM's servers as the engine knows it: where it is, whose it is, and how its weights change.

In: a file of weights. Out: a server that samples from them, and says their version with each completion.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from ajet.engine.server_process import ServerProcess, answers
from ajet.errors import EngineError


@dataclass(slots=True, kw_only=True, eq=False)
class Server:
    """A server, and how it was started if it is ours."""

    url: str
    starter: Callable[[], ServerProcess] | None = None
    """Starts its process; None for a server that was there."""
    process: ServerProcess | None = None
    num_running: int = 0
    """Requests that wait for it."""
    reviving: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Of the requests that found it dead, one sees to it."""
    _was_restarted: bool = False
    _restarting: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def started(cls, starter: Callable[[], ServerProcess]) -> Server:
        """One of ours, which may not answer yet."""
        process = starter()
        return cls(url=process.url, starter=starter, process=process)

    def wait(self) -> None:
        """Until it answers; errors as `ServerProcess.wait`."""
        if self.process is not None:
            self.process.wait()

    def restart(self, error: httpx.TransportError, weights: Path | None, version: int) -> None:
        """Start it again, once, with the weights that it had.

        Raises:
            EngineError: it is not ours, it has died before, or it does not start.
        """
        with self._restarting:
            if answers(self.url):  # another thread has done it
                return
            if self.starter is None or self.process is None:
                name = type(error).__name__
                raise EngineError(f"vLLM's server at {self.url} no longer answers ({name})") from error
            words = self.process.last_words()
            self.process.close()
            if self._was_restarted:
                raise EngineError(f"vLLM's server ended a second time: {words}") from error
            print(f"warning: vLLM's server ended and is started again: {words}", file=sys.stderr, flush=True)
            self._was_restarted = True
            self.process = self.starter()
            self.url = self.process.url
            self.process.wait()
            if weights is not None:
                self.put_weights(weights)
            self.put_version(version)

    def close(self) -> None:
        """End it if it is ours."""
        if self.process is not None:
            self.process.close()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Requests that run stand still meanwhile, and go on behind it."""
        self._ask("/pause?mode=keep")
        yield
        self.resume()

    def resume(self) -> None:
        """Let requests go on, if they stand still."""
        self._ask("/resume")

    def put_weights(self, path: Path | None) -> None:
        """Put a file's weights in place, the checkpoint's without one, and forget what was cached of the old ones."""
        self._ask("/collective_rpc", {"method": "load_weights_from", "args": ["" if path is None else str(path)]})
        # Requests that run compute theirs again, so that no token is sampled from a mixture of weights.
        cleared = self._ask("/reset_prefix_cache?reset_running_requests=true").json()
        if not cleared["success"]:
            raise EngineError(f"vLLM's server at {self.url} kept cached prefixes of the old weights")

    def put_version(self, version: int) -> None:
        """Say which weights these are."""
        self._ask("/update_weight_version", {"new_version": str(version)})

    def _ask(self, path: str, body: object = None) -> httpx.Response:
        """Raises `EngineError` where the server refuses; httpx's errors where there is none."""
        response = httpx.post(f"{self.url}{path}", json=body, timeout=None, trust_env=False)
        if not response.is_success:
            raise EngineError(
                f"vLLM's server at {self.url} cannot {path.partition('?')[0].strip('/')}: {said(response)}; "
                "docs/engines.md says how it must be started"
            )
        return response


def said(response: httpx.Response) -> str:
    """A refusal in one line."""
    return f"{response.status_code} {' '.join(response.text.split())[:300]}"
