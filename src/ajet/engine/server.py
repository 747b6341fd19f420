"""One of vLLM's servers as the engine knows it: where it is, whose it is, and how its weights change.

In: a file of weights. Out: a server that samples from them, and says their version with each completion.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from ajet.engine.server_process import ServerProcess
from ajet.errors import EngineError


@dataclass(slots=True, kw_only=True, eq=False)
class Server:
    """A server, and how it was started if it is ours."""

    url: str
    process: ServerProcess | None = None
    environment: dict[str, str] = field(default_factory=dict)
    """Variables that its process was started with."""
    num_running: int = 0
    """Requests that wait for it."""
    was_restarted: bool = False
    restarting: threading.Lock = field(default_factory=threading.Lock)
    reviving: asyncio.Lock = field(default_factory=asyncio.Lock)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Requests that run stand still meanwhile, and go on behind it."""
        self._ask("/pause?mode=keep")
        yield
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
