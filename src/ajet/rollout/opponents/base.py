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

from ajet.chat.types import ChatReply, ToolCall
from ajet.config.component import asked_names, construct
from ajet.config.fields import named, needed
from ajet.errors import OpponentError

if TYPE_CHECKING:
    from ajet.chat.types import ChatModel, ChatRequest
    from ajet.rollout.running_episode import Agent
    from ajet.workflow import Workflow

OpponentMaker = Callable[["Agent"], "ChatModel | None"]
"""An agent that is not trained -> who answers it; None where the workflow itself brings a model."""


@dataclass
class OpponentConfig:
    """The opponent group. The chosen opponent's subclass has its own settings."""

    name: str = needed()
    """The opponent's name, e.g. `random`: what `opponent=` chooses."""

    needs_engine: ClassVar[bool] = False
    """Whether the starting model speaks: on the policy's engine where that keeps its weights, beside adapters, else on
    one of its own that is never given new weights."""
    component: ClassVar[Any] = None
    """The class of one agent's opponent where a user wrote it (docs/extend/opponent.md)."""

    def build(self, *, workflow: type[Workflow]) -> OpponentMaker:
        """What makes the opponent for an agent."""
        if self.component is None:
            return lambda agent: None
        setting = f"opponent={self.name}"

        def make(agent: Agent) -> ChatModel:
            made = construct(self, setting, agent_name=agent.name, target_tag=agent.target_tag, rng=agent.rng)
            return CheckedOpponent(made, setting)

        return make

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


class CheckedOpponent:
    """Stands before an opponent that a user wrote: what it answers is a reply, or the error names it."""

    def __init__(self, opponent: ChatModel, name: str) -> None:
        """`name`: what chose it, with its value, for errors."""
        self._opponent = opponent
        self._name = name

    async def chat(self, request: ChatRequest) -> ChatReply:
        """Ask it.

        Raises:
            OpponentError: it returned something else than a reply.
        """
        reply: object = await self._opponent.chat(request)
        if not isinstance(reply, ChatReply):
            told = f"{reply!r:.200} ({type(reply).__name__})"
        elif not isinstance(reply.content, str):
            told = f"a ChatReply whose content is {reply.content!r:.200} ({type(reply.content).__name__})"
        elif not all(isinstance(call, ToolCall) for call in reply.tool_calls):
            told = f"a ChatReply with tool_calls {reply.tool_calls!r:.200}, which are not all ajet.chat.types.ToolCall"
        else:
            return reply
        raise OpponentError(
            f"{self._name}: chat returned {told}; it must return an ajet.chat.types.ChatReply, e.g. "
            'ChatReply(content="I pass.")'
        )


@dataclass
class FrozenConfig(OpponentConfig):
    """The starting model, never trained: on the policy's engine where `engine.lora=adapters`, else on another one."""

    name: str = named("frozen")

    needs_engine: ClassVar[bool] = True


@dataclass
class OwnModelsConfig(OpponentConfig):
    """Each agent's own `debug_model`."""

    name: str = named("workflow")

    @override
    def lacks(self, *, scripted: bool, has_own_models: bool) -> str | None:
        return None if has_own_models else "models of its own"
