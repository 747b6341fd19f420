"""Messages as agent frameworks send them -> one plain form that compares equal across turns.

OpenAI, DashScope and AgentScope differ in how they spell the same message: content as a string, as a list
of `{"text": …}` or `{"type": "text", …}` parts or None; arguments as text or as an object. Templates and the
search for a recorded prefix want one spelling. Left out: images, audio and video, which are refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ajet.chat.types import Message, ToolCall, is_text
from ajet.errors import WorkflowError

ROLES = ("system", "user", "assistant", "tool")


def plain_messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every message with `role` and `content: str`; assistant `tool_calls` as name and arguments object.

    Call ids are dropped: results follow their calls in order, and the ids are random.

    Raises:
        WorkflowError: a role that chat models do not know, or content that is not text.
    """
    return [_plain(message) for message in messages]


def assistant_message(content: str, tool_calls: Sequence[ToolCall]) -> dict[str, Any]:
    """The plain form of a reply, as it will come back in the agent's next request."""
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if tool_calls:
        message["tool_calls"] = [
            {"type": "function", "function": {"name": call.name, "arguments": json.loads(call.arguments)}}
            for call in tool_calls
        ]
    return message


def _plain(message: Message) -> dict[str, Any]:
    role = message.get("role")
    if role == "developer":
        role = "system"
    if role not in ROLES:
        raise WorkflowError(f"A message has role {role!r}; a chat model knows {', '.join(ROLES)}.")
    plain: dict[str, Any] = {"role": role, "content": _text(message.get("content"))}
    if message.get("tool_calls"):
        plain["tool_calls"] = [_plain_call(call) for call in message["tool_calls"]]
    if not is_text(plain["content"] + json.dumps(plain.get("tool_calls"), ensure_ascii=False, default=str)):
        raise WorkflowError(f"A message of the {role} holds half of a surrogate pair, which is no character.")
    return plain


def _text(content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        return "\n".join(_part_text(part) for part in content)
    raise WorkflowError(f"A message's content must be text or a list of text parts, not {type(content).__name__}.")


def _part_text(part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping) and isinstance(part.get("text"), str):
        return str(part["text"])
    raise WorkflowError("A message holds a part that is not text; the policy reads text only.")


def _plain_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    arguments = function["arguments"]
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            # A malformed call in somebody's history is shown as the text that it was.
            arguments = function["arguments"]
    return {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
