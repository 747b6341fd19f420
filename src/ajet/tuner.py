"""What a workflow asks for models: `tuner.as_agentscope_model(...)` and its kin.

One tuner an episode. It decides by `target_tag` who speaks for an agent: the policy if the tag is trained, else the
configured opponent, else the workflow's own `debug_model`. Frameworks are adapters that `assemble` puts in, so this
module knows none of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from ajet.errors import ConfigError

if TYPE_CHECKING:
    from ajet.chat.types import ChatModel
    from ajet.config.root import Config

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


class AjetTuner:
    """Hands out models in one episode of a workflow."""

    def __init__(
        self,
        *,
        config: Config,
        trainable_targets: list[str] | None,
        cast: Cast,
        agentscope_adapter: Callable[[ChatModel, str], Any],
    ) -> None:
        """`trainable_targets`: None trains every agent."""
        self.config = config
        """The whole resolved config, the workflow's own parameters included."""
        self.trainable_targets = trainable_targets
        self._cast = cast
        self._agentscope_adapter = agentscope_adapter

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
        name = agent_name or DEFAULT_NAME
        tag = target_tag or name
        speaker = self._speaker(name, tag, has_own=debug_model is not None)
        return debug_model if speaker is None else self._agentscope_adapter(speaker, name)

    def _speaker(self, name: str, tag: str, *, has_own: bool) -> ChatModel | None:
        if self.trainable_targets is None or tag in self.trainable_targets:
            return self._cast.policy(name, tag)
        speaker = self._cast.opponent(name, tag)
        if speaker is None and not has_own:
            raise ConfigError(
                f"Agent {name!r} with target_tag {tag!r} is not trained and has no debug_model: set "
                "opponent=scripted, random, frozen or openai, or train it too."
            )
        return speaker
