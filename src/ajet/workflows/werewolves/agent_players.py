"""AgentScope agents at a werewolves table: a moderator's requests in, structured replies out.

Apart from the workflow's own module, which is imported to check settings before anything as heavy as AgentScope is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NoReturn

from ajet.rollout.agents.agentscope_names import alias_mcp_names

alias_mcp_names()

from agentscope.agent import ReActAgent  # noqa: E402
from agentscope.formatter import OpenAIMultiAgentFormatter  # noqa: E402
from agentscope.memory import InMemoryMemory  # noqa: E402
from agentscope.message import Msg  # noqa: E402
from agentscope.pipeline import MsgHub  # noqa: E402

from ajet.workflows.werewolves import prompts  # noqa: E402
from ajet.workflows.werewolves.decisions import Ask  # noqa: E402
from ajet.workflows.werewolves.play import PlayerReply  # noqa: E402


class _PlayerAgent(ReActAgent):  # type: ignore[misc]
    """AgentScope's agent, which would turn a cancellation into a reply; the episode's timeout and Ctrl-C mean it."""

    async def handle_interrupt(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Let the cancellation through."""
        raise asyncio.CancelledError


class _GrowingMemory(InMemoryMemory):  # type: ignore[misc]
    """AgentScope's memory without a copy of every message for every player: nobody here changes what was said."""

    async def add(
        self,
        memories: Msg | list[Msg] | None,
        marks: str | list[str] | None = None,
        allow_duplicates: bool = False,
        **kwargs: Any,
    ) -> None:
        """Add messages; those that carry a mark, which AgentScope takes away again, as AgentScope does."""
        if marks is not None or not isinstance(memories, Msg):
            await super().add(memories, marks, allow_duplicates, **kwargs)
        elif allow_duplicates or all(memories.id != known.id for known, _ in self.content):
            self.content.append((memories, []))


def make_agent(name: str, sys_prompt: str, model: Any, *, max_iters: int) -> ReActAgent:
    """An agent that speaks through `model`, an AgentScope model, and prints nothing."""
    agent = _PlayerAgent(
        name=name,
        sys_prompt=sys_prompt,
        model=model,
        # Without the usual preface: it would cost tokens and say nothing.
        formatter=OpenAIMultiAgentFormatter(conversation_history_prompt=""),
        memory=_GrowingMemory(),
        max_iters=max_iters,
    )
    agent.set_console_output_enabled(False)
    return agent


class AgentPlayers:
    """A `Table` of AgentScope agents, which remember the game by themselves."""

    def __init__(self, agents: Sequence[ReActAgent]) -> None:
        """`agents` in the order of their seats."""
        self._agents = list(agents)

    async def ask(self, seat: int, text: str, ask: Ask) -> PlayerReply:
        """Let an agent answer with a structured reply."""
        agent = self._agents[seat]
        num_before = await agent.memory.size()
        message = Msg(prompts.MODERATOR, text, "user")
        reply = await agent(message, structured_model=ask.model())
        metadata = reply.metadata or {}
        added = (await agent.memory.get_memory())[num_before:]
        return PlayerReply(fields=metadata or None, num_calls=sum(turn.role == "assistant" for turn in added))

    async def tell(self, seats: Sequence[int], speaker: str, text: str) -> None:
        """Announce to the agents at these seats."""
        announcement = Msg(speaker, text, "user")
        async with MsgHub([self._agents[seat] for seat in seats], announcement, enable_auto_broadcast=False):
            pass
