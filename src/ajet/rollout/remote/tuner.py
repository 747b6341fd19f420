"""The tuner of an episode that is played on a worker: what a workflow asks it for, the trainer's tuner answers.

In: an episode that was claimed. Out: models by URL, in whatever form the workflow wants them. Needs neither an engine
nor a configuration.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Mapping
from typing import Any, SupportsFloat

import httpx

from ajet.errors import AjetError, ConfigError, EpisodeOverError, WorkflowError, require_extra
from ajet.rollout.agents.agentscope_names import alias_mcp_names
from ajet.rollout.endpoint.endpoint import OpenAIAddress
from ajet.tuner import AjetTuner

ANSWER_S = 60.0
_IMPORTING = threading.Lock()


class TrainerGoneError(AjetError):
    """The trainer cannot be reached, or will not have this worker."""

    def __init__(self, message: str, *, is_final: bool = False) -> None:
        """`is_final`: asking again would not help."""
        super().__init__(message)
        self.is_final = is_final


class TrainerClient:
    """The trainer as a worker speaks to it. Safe on any thread."""

    def __init__(self, url: str, key: str) -> None:
        """`url` as the trainer says it, e.g. `http://trainer:8765`.

        Raises:
            ConfigError: it is no such address.
        """
        self.url = url.rstrip("/")
        try:
            parts = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise ConfigError(f"{url} is no address: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.host:
            raise ConfigError(f"{url} is no address of a trainer: give http://<its name>:<workflow.params.port>")
        self._client = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
            trust_env=False,  # proxies are for the world outside
            limits=httpx.Limits(max_connections=None),
        )

    def ask(self, path: str, body: Mapping[str, Any], *, timeout_s: float = ANSWER_S) -> dict[str, Any] | None:
        """Post a request; None where there is nothing to tell.

        Raises:
            TrainerGoneError: no connection, or no answer that could be understood; final where it will not have us.
            EpisodeOverError: the episode has ended there.
            WorkflowError: what was asked cannot be had, or not be sent.
        """
        try:
            content = json.dumps(body)
        except (TypeError, ValueError, RecursionError) as error:
            raise WorkflowError(f"{path} cannot be sent: {error}") from error
        try:
            answer = self._client.post(path, content=content, timeout=timeout_s)
        except httpx.TransportError as error:
            raise TrainerGoneError(f"{self.url} cannot be reached: {error or type(error).__name__}") from error
        if answer.status_code == 204:
            return None
        said = _content(answer)
        if answer.status_code == 200:
            return said
        sentence = str(said.get("error") or f"HTTP {answer.status_code}")
        if answer.status_code == 410:
            raise EpisodeOverError(sentence)
        if answer.status_code in (400, 413):
            raise WorkflowError(sentence)
        raise TrainerGoneError(f"{self.url}: {sentence}", is_final=answer.status_code in (401, 404, 405))


def _content(answer: httpx.Response) -> dict[str, Any]:
    try:
        said = answer.json()
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


class RemoteTuner(AjetTuner):
    """What `execute` is given on a worker."""

    def __init__(self, trainer: TrainerClient, episode_id: str, trainable_targets: list[str] | None) -> None:
        """`trainable_targets` as the run has them."""
        self.trainable_targets = trainable_targets
        self._trainer = trainer
        self._episode_path = f"/episodes/{episode_id}"

    def __getattr__(self, name: str) -> Any:
        if name == "config":
            raise ConfigError("A worker has no tuner.config: give the workflow what it needs as its own parameters.")
        raise AttributeError(name)

    def as_oai_baseurl_apikey(
        self, agent_name: str | None = None, target_tag: str | None = None, debug_model: Any = None
    ) -> OpenAIAddress:
        """As on the trainer.

        Raises:
            ConfigError: debug_model is needed, and has no address.
            WorkflowError: the trainer has nobody to speak for the agent.
            EpisodeOverError: the episode has ended there.
        """
        address = self._address(agent_name, target_tag, has_own=debug_model is not None)
        return OpenAIAddress.of_debug_model(debug_model) if address is None else address

    def as_raw_openai_sdk_client(
        self, agent_name: str | None = None, target_tag: str | None = None, debug_model: Any = None
    ) -> Any:
        """As on the trainer, by URL and past any proxy. Raises as `as_oai_baseurl_apikey`."""
        from ajet.rollout.agents.openai_sdk import OpenAIClient, own_client

        address = self._address(agent_name, target_tag, has_own=debug_model is not None)
        if address is None:
            return own_client(debug_model)
        return OpenAIClient(
            model=address.model, base_url=address.base_url, api_key=address.api_key, http_client=_direct_client()
        )

    def as_agentscope_model(
        self, agent_name: str | None = None, target_tag: str | None = None, debug_model: Any = None
    ) -> Any:
        """AgentScope's own `OpenAIChatModel`, by URL and past any proxy. Raises as `as_oai_baseurl_apikey`."""
        address = self._address(agent_name, target_tag, has_own=debug_model is not None)
        if address is None:
            return debug_model
        require_extra("agentscope", needed_by="tuner.as_agentscope_model")
        with _IMPORTING:  # episodes begin at once, and names that AgentScope misses are put in place first
            alias_mcp_names()
            from agentscope.model import OpenAIChatModel

        return OpenAIChatModel(
            model_name=address.model,
            api_key=address.api_key,
            stream=False,
            client_kwargs={"base_url": address.base_url, "http_client": _direct_client()},
        )

    def add_reward(self, value: SupportsFloat, agent_name: str | None = None) -> None:
        """As on the trainer.

        Raises:
            WorkflowError: as there.
            EpisodeOverError: the episode has ended there.
        """
        number = float(value) if isinstance(value, SupportsFloat) else math.nan
        if not math.isfinite(number):
            raise WorkflowError(f"add_reward: {value!r:.100} is not a finite number.")
        self._ask("add_reward", {"value": number, "agent_name": agent_name})

    def get_context_tracker(self) -> Any:
        """As on the trainer; each look at it asks there."""
        return _RemoteContext(self)

    def _address(self, agent_name: str | None, target_tag: str | None, *, has_own: bool) -> OpenAIAddress | None:
        said = self._ask("agent", {"agent_name": agent_name, "target_tag": target_tag, "has_own_model": has_own})
        if said.pop("own_model"):
            return None
        return OpenAIAddress(**said)

    def _ask(self, verb: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._trainer.ask(f"{self._episode_path}/{verb}", body) or {}


def _direct_client() -> httpx.AsyncClient:
    """With the SDK's own patience. The addresses are plain HTTP, so that no certificates need to be read."""
    from openai import DEFAULT_TIMEOUT

    return httpx.AsyncClient(trust_env=False, verify=False, timeout=DEFAULT_TIMEOUT)


class _RemoteContext:
    def __init__(self, tuner: RemoteTuner) -> None:
        self._tuner = tuner

    @property
    def num_context_overflows(self) -> int:
        return int(self._tuner._ask("context", {})["num_context_overflows"])

    @property
    def context_overflow(self) -> bool:
        return self.num_context_overflows > 0
