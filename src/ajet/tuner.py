"""What a workflow asks for models: for AgentScope, for the OpenAI SDK, or as a URL for anything else.

One tuner an episode. It decides by `target_tag` who speaks for an agent: the policy if the tag is trained, else the
configured opponent, else the workflow's own `debug_model`. Frameworks are adapters that `assemble` puts in, so this
module knows none of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from ajet.chat.recording import EpisodeRecorder
from ajet.errors import ConfigError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from ajet.chat.types import ChatModel

DEFAULT_NAME = "agent"
"""Name and tag of an agent that the workflow does not name."""


class Cast(Protocol):
    """Who plays whom in one episode."""

    def policy(self, agent_name: str, target_tag: str) -> ChatModel:
        """The model being trained, recorded under this name and tag."""
        ...

    def opponent(self, agent_name: str, target_tag: str) -> ChatModel | None:
        """The configured opponent; None leaves the agent to the workflow's own model."""
        ...


@runtime_checkable
class _Addressed(Protocol):
    base_url: Any
    api_key: Any
    model: Any


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
        if not isinstance(model, _Addressed):
            return None
        return cls(base_url=str(model.base_url), api_key=str(model.api_key), model=str(model.model))


class Gateway(Protocol):
    """The ways to a model in one episode, and what may be asked of it there."""

    def checked(self, model: ChatModel, *, agent_name: str, target_tag: str, trained: bool) -> ChatModel:
        """The model, refusing in process what it refuses behind a URL."""
        ...

    def require_thread(self) -> None:
        """Make sure that the program may block its thread."""
        ...

    def address(self, model: ChatModel, *, agent_name: str, target_tag: str, trained: bool) -> OpenAIAddress:
        """The model behind a URL."""
        ...

    def sdk_client(self, model: ChatModel, *, agent_name: str, target_tag: str, trained: bool) -> AsyncOpenAI:
        """The model behind the OpenAI SDK, in process."""
        ...

    def own_client(self, debug_model: Any) -> AsyncOpenAI:
        """The workflow's own model behind the OpenAI SDK."""
        ...


class ContextTracker:
    """What became of the context's length in this episode so far."""

    def __init__(self, recorder: EpisodeRecorder) -> None:
        """`recorder` is the episode's; it is read anew each time."""
        self._recorder = recorder

    @property
    def num_context_overflows(self) -> int:
        """Requests whose prompt did not fit."""
        return self._recorder.context_overflows

    @property
    def context_overflow(self) -> bool:
        """Whether there was any."""
        return self.num_context_overflows > 0


class AjetTuner:
    """Hands out models in one episode of a workflow."""

    def __init__(
        self,
        *,
        config: Any,
        trainable_targets: list[str] | None,
        cast: Cast,
        agentscope_adapter: Callable[[ChatModel, str], Any],
        gateway: Gateway | None = None,
        recorder: EpisodeRecorder | None = None,
    ) -> None:
        """`trainable_targets`: None trains every agent; `gateway`: None where only AgentScope models are handed out."""
        self.config = config
        """The whole resolved config by attributes (`ajet.config.view`), sections of the author's own included."""
        self.trainable_targets = trainable_targets
        self._cast = cast
        self._agentscope_adapter = agentscope_adapter
        self._gateway = gateway
        self._recorder = recorder or EpisodeRecorder()

    def as_agentscope_model(
        self, agent_name: str | None = None, target_tag: str | None = None, debug_model: Any = None
    ) -> Any:
        """A model for an AgentScope agent (a `ChatModelBase`).

        Args:
            agent_name: names the agent in records; default `agent`.
            target_tag: its role; trained if among the trainable targets. Default: the agent's name.
            debug_model: speaks while the role is not trained and the config names no opponent.

        Raises:
            ConfigError: the role is not trained and there is neither an opponent nor a debug_model.
        """
        name, tag = _named(agent_name, target_tag)
        speaker = self._speaker(name, tag, has_own=debug_model is not None)
        if speaker is None:
            return debug_model
        if self._gateway is not None:
            speaker = self._gateway.checked(speaker, agent_name=name, target_tag=tag, trained=self._is_trained(tag))
        return self._agentscope_adapter(speaker, name)

    def as_oai_baseurl_apikey(
        self, agent_name: str | None = None, target_tag: str | None = None, debug_model: Any = None
    ) -> OpenAIAddress:
        """A URL, a key and a model name for any OpenAI-compatible client, blocking ones included.

        The key is this agent's in this episode and ends with it. An episode that asks for a URL runs on a thread of
        its own. The first ones of a run find that out by starting over, so ask before what must not be done twice.

        Args:
            agent_name: as for `as_agentscope_model`.
            target_tag: likewise.
            debug_model: speaks while the role is not trained and the config names no opponent: an object with
                `base_url`, `api_key` and `model`, e.g. an `OpenAIAddress`. It is handed out as it is.

        Raises:
            ConfigError: as for `as_agentscope_model`; or debug_model has no address; or the server cannot start.
        """
        name, tag = _named(agent_name, target_tag)
        gateway = self._required_gateway()
        gateway.require_thread()
        speaker = self._speaker(name, tag, has_own=debug_model is not None)
        if speaker is not None:
            return gateway.address(speaker, agent_name=name, target_tag=tag, trained=self._is_trained(tag))
        address = OpenAIAddress.of(debug_model)
        if address is None:
            raise ConfigError(
                f"debug_model={type(debug_model).__name__}: as_oai_baseurl_apikey takes an object with base_url, "
                "api_key and model, e.g. ajet.OpenAIAddress."
            )
        return address

    def as_raw_openai_sdk_client(
        self, agent_name: str | None = None, target_tag: str | None = None, debug_model: Any = None
    ) -> AsyncOpenAI:
        """An `openai.AsyncOpenAI` whose requests reach the model without leaving the process.

        `client.chat.completions.create(messages)` is enough: the model's name may be left out.

        Args:
            agent_name: as for `as_agentscope_model`.
            target_tag: likewise.
            debug_model: speaks while the role is not trained and the config names no opponent: an `AsyncOpenAI`,
                handed out as it is, or an object with `base_url`, `api_key` and `model`, e.g. an `OpenAIAddress`.

        Raises:
            ConfigError: as for `as_agentscope_model`; or debug_model is neither.
        """
        name, tag = _named(agent_name, target_tag)
        gateway = self._required_gateway()
        speaker = self._speaker(name, tag, has_own=debug_model is not None)
        if speaker is None:
            return gateway.own_client(debug_model)
        return gateway.sdk_client(speaker, agent_name=name, target_tag=tag, trained=self._is_trained(tag))

    def get_context_tracker(self) -> ContextTracker:
        """Whether a conversation of this episode has outgrown the model's context."""
        return ContextTracker(self._recorder)

    def _is_trained(self, tag: str) -> bool:
        return self.trainable_targets is None or tag in self.trainable_targets

    def _required_gateway(self) -> Gateway:
        if self._gateway is None:
            raise ConfigError("This tuner hands out AgentScope models only: it was made without a gateway.")
        return self._gateway

    def _speaker(self, name: str, tag: str, *, has_own: bool) -> ChatModel | None:
        if self._is_trained(tag):
            return self._cast.policy(name, tag)
        speaker = self._cast.opponent(name, tag)
        if speaker is None and not has_own:
            raise ConfigError(
                f"Agent {name!r} with target_tag {tag!r} is not trained and has no debug_model: set "
                "opponent=scripted, random, frozen or openai, or train it too."
            )
        return speaker


def _named(agent_name: str | None, target_tag: str | None) -> tuple[str, str]:
    name = agent_name or DEFAULT_NAME
    return name, target_tag or name
