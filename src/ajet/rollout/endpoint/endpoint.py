"""A run's endpoint: keys, each of which opens one agent's model in one episode; its application; and its server.

In: `AgentModel`s. Out: addresses for any OpenAI-compatible client. A key is `sk-ajet-<id>-<secret>` and opens nothing
once its episode has ended. The id finds the model, the secret is compared in constant time, also where the id is
unknown, so that answering times tell nothing. Shared by a run's episodes on whatever threads they run.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any, Self

from ajet.errors import ConfigError
from ajet.rollout.agent_model import AgentModel
from ajet.rollout.endpoint.app import EndpointApp, episode_path, model_name
from ajet.rollout.endpoint.config import EndpointConfig
from ajet.rollout.running_episode import RunningEpisode

if TYPE_CHECKING:
    from ajet.rollout.endpoint.server import EndpointServer

PREFIX = "sk-ajet-"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIAddress:
    """Where an OpenAI-compatible server is, with what key and under which name it serves a model."""

    base_url: str
    """Ends in /v1, as OpenAI's clients want it."""
    api_key: str = field(repr=False)
    model: str

    @classmethod
    def of(cls, model: Any) -> Self | None:
        """The address of anything that has one; None where a part is missing."""
        try:
            return cls(base_url=str(model.base_url), api_key=str(model.api_key), model=str(model.model))
        except AttributeError:
            return None

    @classmethod
    def of_debug_model(cls, debug_model: Any) -> Self:
        """The address that a workflow gives for an agent that it speaks for itself.

        Raises:
            ConfigError: it has none.
        """
        address = cls.of(debug_model)
        if address is None:
            raise ConfigError(
                f"debug_model={type(debug_model).__name__}: as_oai_baseurl_apikey takes an object with base_url, "
                "api_key and model, e.g. ajet.OpenAIAddress."
            )
        return address


class Endpoint:
    """One a run. Nothing listens before `base_url` or `address` is called."""

    def __init__(self, config: EndpointConfig | None = None) -> None:
        """`config`: the endpoint group; None: its defaults."""
        self._config = config or EndpointConfig()
        # Both dicts are only put to, popped and looked up, which threads may do at once.
        self._models: dict[str, tuple[str, AgentModel]] = {}
        self._keys: dict[str, list[str]] = {}
        self._decoy = _new_key()[1]
        self.app = EndpointApp(self.model_of, max_body_bytes=int(self._config.max_body_mib * 2**20))
        """Answers requests, in process and behind the server."""
        self._server: EndpointServer | None = None
        self._starting = Lock()

    def open(self, model: AgentModel) -> str:
        """A new key for a model, until `end` is called with its episode."""
        name, key = _new_key()
        self._models[name] = (key, model)
        self._keys.setdefault(model.episode.name, []).append(name)
        return key

    def model_of(self, key: str) -> AgentModel | None:
        """The model that a key opens, or None for a key that is wrong or dead."""
        known = self._models.get(_name_of(key))
        expected = self._decoy if known is None else known[0]
        fits = hmac.compare_digest(key.encode(), expected.encode())
        return known[1] if fits and known is not None else None

    def end(self, episode: RunningEpisode) -> None:
        """End an episode's keys."""
        for name in self._keys.pop(episode.name, ()):
            self._models.pop(name, None)

    def address(self, model: AgentModel) -> OpenAIAddress:
        """A URL and a key of this model; starts the server if need be.

        Raises:
            ConfigError: as `base_url`.
        """
        base_url = self.base_url(model.episode.name)
        return OpenAIAddress(base_url=base_url, api_key=self.open(model), model=model_name(model.agent))

    def base_url(self, episode: str | None = None) -> str:
        """Where clients find the server, which starts now if it has not; an episode that is named has its own address.

        Raises:
            ConfigError: the configured address cannot be served.
        """
        with self._starting:
            if self._server is None:
                from ajet.rollout.endpoint.server import EndpointServer  # uvicorn, only for those who need it

                self._server = EndpointServer(self.app, host=self._config.host, port=self._config.port)
            return f"{self._server.origin}{'' if episode is None else episode_path(episode)}/v1"

    def close(self) -> None:
        """Stop the server, if there is one."""
        with self._starting:
            if self._server is not None:
                self._server.close()
                self._server = None


def _new_key() -> tuple[str, str]:
    name = secrets.token_hex(8)
    return name, f"{PREFIX}{name}-{secrets.token_urlsafe(32)}"


def _name_of(key: str) -> str:
    return key.removeprefix(PREFIX).partition("-")[0]
