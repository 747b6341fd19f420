"""A run's endpoint: the open sessions, the handler over them, and a server that starts when a URL is first wanted."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from ajet.rollout.endpoint.handler import Handler
from ajet.rollout.endpoint.refusals import Refusals
from ajet.rollout.endpoint.sessions import SessionTable, episode_path

if TYPE_CHECKING:
    from ajet.rollout.endpoint.server import EndpointServer


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSettings:
    """From `endpoint.*` in the config."""

    host: str = "127.0.0.1"
    port: int = 0
    """0: any free one."""
    ignore_unsupported: bool = False
    """Drop with a warning what a trained agent may not ask for, instead of refusing it."""
    max_body_bytes: int = 8 * 2**20


class Endpoint:
    """One a run, shared by its episodes on whatever threads they run."""

    def __init__(self, settings: EndpointSettings | None = None) -> None:
        """Nothing listens before `base_url` is called; None: the defaults."""
        self._settings = settings or EndpointSettings()
        self.sessions = SessionTable()
        self.refusals = Refusals(ignore=self._settings.ignore_unsupported)
        self.handler = Handler(self.sessions, self.refusals)
        self._server: EndpointServer | None = None
        self._starting = Lock()

    def base_url(self, episode: str | None = None) -> str:
        """Where clients find the server, which starts now if it has not; an episode that is named has its own address.

        Raises:
            ConfigError: the configured address cannot be served.
        """
        with self._starting:
            if self._server is None:
                from ajet.rollout.endpoint.server import EndpointServer  # uvicorn, only for those who need it

                self._server = EndpointServer(
                    self.handler,
                    host=self._settings.host,
                    port=self._settings.port,
                    max_body_bytes=self._settings.max_body_bytes,
                )
            return f"{self._server.origin}{'' if episode is None else episode_path(episode)}/v1"

    def close(self) -> None:
        """Stop the server, if there is one."""
        with self._starting:
            if self._server is not None:
                self._server.close()
                self._server = None
