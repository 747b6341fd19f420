"""What speaks for agents that are not trained, and what the opponents' configurations share.

An opponent is a subclass of `OpponentConfig` with its settings, and what it builds beside it: a chat model an agent.
The two that build none stand here: an engine speaks for `frozen`, the workflow itself for `workflow`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from ajet.config.component import asked_names, construct
from ajet.config.fields import named, needed

if TYPE_CHECKING:
    from ajet.chat.types import ChatModel
    from ajet.rollout.agent_model import Agent
    from ajet.workflow import Workflow

OpponentMaker = Callable[["Agent"], "ChatModel | None"]
"""An agent that is not trained -> who answers it; None where the workflow itself brings a model."""


@dataclass
class OpponentConfig:
    """The opponent group. The chosen opponent's subclass has its own settings."""

    name: str = needed()
    """The opponent's name, e.g. `random`: what `opponent=` chooses."""

    needs_engine: ClassVar[bool] = False
    """Whether the starting model speaks, on an engine of its own that is never given new weights."""
    component: ClassVar[Any] = None
    """The class of one agent's opponent where a user wrote it (docs/extend/opponent.md)."""

    def build(self, *, workflow: type[Workflow]) -> OpponentMaker:
        """What makes the opponent for an agent."""
        if self.component is None:
            return lambda agent: None
        setting = f"opponent={self.name}"
        return lambda agent: construct(self, setting, agent_name=agent.name, target_tag=agent.target_tag, rng=agent.rng)

    def try_own(self, tags: Sequence[str]) -> None:
        """Make a user's class once for each tag, so that one that cannot be made is refused before anything loads. One
        that asks for the agent's name is not tried: only play tells which there are.

        Args:
            tags: of agents that are not trained; empty where they are not known.

        Raises:
            ConfigError: what its `__init__` raised.
        """
        if self.component is None or "agent_name" in asked_names(self.component):
            return
        for tag in tags if "target_tag" in asked_names(self.component) else [""]:
            construct(self, f"opponent={self.name}", target_tag=tag, rng=random.Random(0))

    def check(self) -> None:
        """Refuse settings that cannot work.

        Raises:
            ConfigError: what to change.
        """

    def lacks(self, *, scripted: bool, has_own_models: bool) -> str | None:
        """What a workflow would need for this opponent to play it, in words; None if it has it.

        Args:
            scripted: whether the workflow has scripted players.
            has_own_models: whether it brings models for agents that are not trained.
        """
        return None


@dataclass
class FrozenConfig(OpponentConfig):
    """The starting model, on the same kind of engine, never trained."""

    name: str = named("frozen")

    needs_engine: ClassVar[bool] = True


@dataclass
class OwnModelsConfig(OpponentConfig):
    """Each agent's own `debug_model`."""

    name: str = named("workflow")

    @override
    def lacks(self, *, scripted: bool, has_own_models: bool) -> str | None:
        return None if has_own_models else "models of its own"
