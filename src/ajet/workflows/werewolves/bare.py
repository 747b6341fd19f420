"""A table of bare chat models: the game without an agent framework, for measuring thousands of games.

In: a chat model a seat. Out: the same requests, message by message, as AgentScope's ReActAgent sends for a player
who answers every request with text and one legal tool call (a test compares them). Left out: second tries; a reply that
cannot be used counts as none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ajet.chat.messages import assistant_message
from ajet.chat.types import ChatModel, ChatReply, ChatRequest
from ajet.workflows.werewolves.decisions import TOOL_NAME, Ask
from ajet.workflows.werewolves.play import PlayerReply
from ajet.workflows.werewolves.prompts import MODERATOR

TOOL_RESULT = "Successfully generated response."
"""What AgentScope's agent notes after a valid structured reply."""


@dataclass(slots=True, kw_only=True)
class BarePlayer:
    """A chat model with the conversation it has had."""

    model: ChatModel
    messages: list[dict[str, Any]]
    """Finished turns, the system prompt first."""
    heard: list[str] = field(default_factory=list)
    """Lines since the last turn."""
    num_calls: int = 0


class BarePlayers:
    """A `Table` that asks chat models without an agent framework and keeps their conversations itself."""

    def __init__(self, models: Sequence[ChatModel], system_prompts: Sequence[str]) -> None:
        """One model and one prompt a seat."""
        self.players = [
            BarePlayer(model=model, messages=[{"role": "system", "content": prompt}])
            for model, prompt in zip(models, system_prompts, strict=True)
        ]

    async def ask(self, seat: int, text: str, ask: Ask) -> PlayerReply:
        """Send what the player has heard since its last turn together with the request; one call, no second try."""
        player = self.players[seat]
        heard = "\n".join([*player.heard, f"{MODERATOR}: {text}"])
        player.heard.clear()
        player.messages.append({"role": "user", "content": f"<history>\n{heard}\n</history>"})
        player.num_calls += 1
        request = ChatRequest(messages=player.messages, tools=[ask.tool()], tool_choice="required")
        reply = await player.model.chat(request)
        player.messages.append(assistant_message(reply.content, reply.tool_calls))
        player.messages += [{"role": "tool", "content": TOOL_RESULT} for _ in reply.tool_calls]
        return PlayerReply(fields=_fields(reply))

    async def tell(self, seats: Sequence[int], speaker: str, text: str) -> None:
        """Note a line for later."""
        for seat in seats:
            self.players[seat].heard.append(f"{speaker}: {text}")


def _fields(reply: ChatReply) -> dict[str, Any] | None:
    calls = [call for call in reply.tool_calls if call.name == TOOL_NAME]
    if not calls:
        return None
    fields: dict[str, Any] = json.loads(calls[-1].arguments)
    return fields
