"""How workflows of plain conversations ask a model of AgentScope's kind.

In: the model and the messages so far. Out: its response, and the text in one. A workflow with a single agent asks by
`ask_single_agent`, so that who talks until the context is full has lost, and does not get the episode played again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ajet.errors import ContextOverflowError, PolicyError


def text_of(response: Any) -> str:
    """What a response says, its tool calls aside."""
    return "".join(block["text"] for block in response.content if block["type"] == "text")


async def ask_single_agent(
    model: Any, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] | None = None
) -> Any:
    """The response to a conversation that only this agent has filled.

    Raises:
        PolicyError: it has outgrown the context since the agent first spoke.
        ContextOverflowError: what was asked first does not fit.
    """
    try:
        return await model(messages, tools=tools)
    except ContextOverflowError as error:
        if any(message["role"] == "assistant" for message in messages):
            raise PolicyError(f"the agent's conversation is too long: {error}") from error
        raise
