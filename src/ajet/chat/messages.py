"""Messages as agent frameworks send them -> one plain form that compares equal across turns.

OpenAI, DashScope and AgentScope differ in how they spell the same message: content as a string, as a list
of `{"text": …}` or `{"type": "text", …}` parts or None; arguments as text or as an object. Templates and the
search for a recorded prefix want one spelling. Left out: images, audio and video, which are refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from ajet.chat.strict_json import NotJsonError, read_json
from ajet.chat.types import Message, ToolCall, is_text
from ajet.errors import WorkflowError

ROLES = ("system", "user", "assistant", "tool")


def plain_messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every message with `role` and `content: str`; assistant `tool_calls` as name and arguments object.

    Ids of calls are dropped, since whoever made them chose them; before that, results are put in the order of their
    calls, so that a template, which shows no ids, shows each result where it belongs.

    Raises:
        WorkflowError: a role that chat models do not know, or content that is not text.
    """
    return [_plain(message) for message in results_in_call_order(messages)]


def results_in_call_order(messages: Sequence[Message]) -> list[Message]:
    """The messages with the results behind each assistant's calls in the order of those calls, by `tool_call_id`.

    Results that name none of the calls stay where they are, and so does everything that is not a result.

    Example: behind calls a, b and c, the results (c, x, a) become (a, x, c).
    """
    ordered = list(messages)
    place_of: dict[str, int] = {}
    slots: list[int] = []

    def sort_slots() -> None:
        results = sorted((ordered[slot] for slot in slots), key=lambda result: place_of[result["tool_call_id"]])
        for slot, result in zip(slots, results, strict=True):
            ordered[slot] = result

    for index, message in enumerate(messages):
        if message.get("role") == "assistant":
            sort_slots()
            place_of, slots = _places(message), []
        elif message.get("role") == "tool":
            call_id = message.get("tool_call_id")
            if isinstance(call_id, str) and call_id in place_of:
                slots.append(index)
    sort_slots()
    return ordered


def _places(message: Message) -> dict[str, int]:
    """Which of the message's calls has which id."""
    ids = [call.get("id") for call in _calls(message)]
    return {call_id: place for place, call_id in reversed(list(enumerate(ids))) if isinstance(call_id, str)}


def _calls(message: Message) -> Sequence[Mapping[str, Any]]:
    calls = message.get("tool_calls") or []
    if not isinstance(calls, Sequence) or not all(isinstance(call, Mapping) for call in calls):
        raise WorkflowError("A message's tool_calls must be a list of objects.")
    return calls


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
    calls = _calls(message)
    if calls:
        plain["tool_calls"] = [_plain_call(call) for call in calls]
    if not is_text(plain["content"] + json.dumps(plain.get("tool_calls"), ensure_ascii=False, default=str)):
        raise WorkflowError(f"A message of the {role} holds half of a surrogate pair, which is not a character.")
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
    function = call.get("function")
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or "arguments" not in function:
        raise WorkflowError("A message's tool call must hold a function with its name and arguments.")
    arguments = function["arguments"]
    if isinstance(arguments, str):
        with suppress(NotJsonError):  # a malformed call in a history is shown as the text that it was
            arguments = read_json(arguments)
    return {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
