"""AgentScope agents at a werewolves table: a moderator's requests in, structured replies out.

Apart from the workflow's own module, which is imported to check settings before anything as heavy as AgentScope is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from ajet.agents.agentscope_names import alias_mcp_names

alias_mcp_names()

from agentscope.agent import ReActAgent  # noqa: E402
from agentscope.formatter import OpenAIMultiAgentFormatter  # noqa: E402
from agentscope.message import Msg  # noqa: E402
from agentscope.pipeline import MsgHub  # noqa: E402

from ajet.workflows.werewolves import prompts  # noqa: E402
from ajet.workflows.werewolves.decisions import Ask  # noqa: E402
from ajet.workflows.werewolves.play import Answer  # noqa: E402


def make_agent(name: str, sys_prompt: str, model: Any, *, max_iters: int) -> ReActAgent:
    """An agent that speaks through `model`, an AgentScope model, and prints nothing."""
    agent = ReActAgent(
        name=name,
        sys_prompt=sys_prompt,
        model=model,
        # Without the usual preface: it would cost tokens and say nothing.
        formatter=OpenAIMultiAgentFormatter(conversation_history_prompt=""),
        max_iters=max_iters,
    )
    agent.set_console_output_enabled(False)
    return agent


class AgentTable:
    """AgentScope agents by seat."""

    def __init__(self, agents: Sequence[ReActAgent]) -> None:
        """One agent a seat."""
        self._agents = list(agents)

    async def ask(self, seat: int, text: str, ask: Ask) -> Answer:
        """Let an agent answer with a structured reply."""
        agent = self._agents[seat]
        num_before = await agent.memory.size()
        message = Msg(prompts.MODERATOR, text, "user")
        reply = await agent(message, structured_model=ask.model())
        metadata = reply.metadata or {}
        if metadata.get("_is_interrupted"):
            # The agent turns a cancellation into a reply; the episode's timeout and Ctrl-C mean it.
            raise asyncio.CancelledError
        added = (await agent.memory.get_memory())[num_before:]
        return Answer(fields=metadata or None, num_calls=sum(turn.role == "assistant" for turn in added))

    async def tell(self, seats: Sequence[int], speaker: str, text: str) -> None:
        """Announce to the agents at these seats."""
        announcement = Msg(speaker, text, "user")
        async with MsgHub([self._agents[seat] for seat in seats], announcement, enable_auto_broadcast=False):
            pass
