"""Reply text -> tool calls, strictly: what does not parse is a format error in words, never repaired.

The form is that of Qwen's and Hermes' templates and of the shipped model:
`text<tool_call>{"name": "…", "arguments": {…}}</tool_call>`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from ajet.chat.arguments import UncheckableError, schema_violation
from ajet.chat.strict_json import NotJsonError, checked_arguments, read_json
from ajet.chat.types import ChatReply, NamedTool, ToolCall, ToolChoice, ToolSchema

OPEN, CLOSE = "<tool_call>", "</tool_call>"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedReply:
    """Either read (`format_error` None), or the whole raw text with the reason.

    In two cases the agent program answers an error itself, so that the reply stays as it is: a call that was required
    and is missing, and arguments that do not fit the tool's parameters.
    """

    content: str
    tool_calls: tuple[ToolCall, ...]
    format_error: str | None
    unchecked: bool = False
    """Whether some call's arguments could not be held against its tool's parameters, and so were taken as they are."""


def reply_as_text(reply: ChatReply) -> str:
    """A reply as the model would write it: text, then each tool call in its tags."""
    calls = "".join(
        OPEN + json.dumps({"name": call.name, "arguments": json.loads(call.arguments)}, ensure_ascii=False) + CLOSE
        for call in reply.tool_calls
    )
    return reply.content + calls


def parse_reply(
    text: str, *, tools: Sequence[ToolSchema], tool_choice: ToolChoice, parallel: bool = True
) -> ParsedReply:
    """Split a reply into text and tool calls."""
    tool_names = [str(tool["function"]["name"]) for tool in tools]
    if OPEN not in text and CLOSE not in text:
        error = None
        if tool_choice == "required" or isinstance(tool_choice, NamedTool):
            error = f"a tool call was required ({', '.join(tool_names)}) and none was made"
        return ParsedReply(content=text.strip(), tool_calls=(), format_error=error)
    try:
        if tool_choice == "none" or not tool_names:
            raise _MalformedCall("a tool was called where none is allowed")
        content, calls = _split(text, tool_names)
        if isinstance(tool_choice, NamedTool) and any(call.name != tool_choice.name for call in calls):
            raise _MalformedCall(f"the tool to call is {tool_choice.name}")
        if len(calls) > 1 and not parallel:
            raise _MalformedCall("only one tool may be called at a time")
    except _MalformedCall as error:
        note = f"{text.strip()}\n[format error: {error}]"
        return ParsedReply(content=note, tool_calls=(), format_error=str(error))
    reason, unchecked = _first_violation(calls, tools)
    return ParsedReply(content=content, tool_calls=tuple(calls), format_error=reason, unchecked=unchecked)


class _MalformedCall(Exception):
    pass


def _first_violation(calls: Sequence[ToolCall], tools: Sequence[ToolSchema]) -> tuple[str | None, bool]:
    """What is wrong with the first call whose arguments do not fit, and whether any could not be checked."""
    parameters = {tool["function"]["name"]: tool["function"].get("parameters") or {} for tool in tools}
    first, unchecked = None, False
    for call in calls:
        try:
            error = schema_violation(json.loads(call.arguments), parameters[call.name])
        except UncheckableError:
            unchecked = True
            continue
        if error is not None and first is None:
            first = f"the arguments do not fit the parameters of {call.name}: {error}"
    return first, unchecked


def _split(text: str, tool_names: Sequence[str]) -> tuple[str, list[ToolCall]]:
    pieces: list[str] = []
    calls: list[ToolCall] = []
    rest = text
    while OPEN in rest:
        before, rest = rest.split(OPEN, 1)
        pieces.append(before)
        if CLOSE not in rest:
            raise _MalformedCall(f"{OPEN} is not closed by {CLOSE}")
        body, rest = rest.split(CLOSE, 1)
        calls.append(_parse_call(body, tool_names))
    pieces.append(rest)
    content = "".join(pieces)
    if CLOSE in content:
        raise _MalformedCall(f"{CLOSE} without {OPEN}")
    return content.strip(), calls


def _parse_call(body: str, tool_names: Sequence[str]) -> ToolCall:
    try:
        value = read_json(body)
    except NotJsonError as error:
        raise _MalformedCall(f"the tool call {error}") from error
    if not isinstance(value, dict) or set(value) != {"name", "arguments"}:
        raise _MalformedCall('a tool call is an object with exactly the keys "name" and "arguments"')
    if value["name"] not in tool_names:
        raise _MalformedCall(f"no tool is called {value['name']!r}; there is {', '.join(tool_names)}")
    try:
        arguments = checked_arguments(value["arguments"])
    except NotJsonError as error:
        raise _MalformedCall(f'"arguments" {error}') from error
    return ToolCall(name=value["name"], arguments=json.dumps(arguments, ensure_ascii=False))
