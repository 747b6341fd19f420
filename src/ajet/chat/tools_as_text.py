"""Tools for models whose chat template has no place for them: told in the system message, called and answered as text.

In: plain messages and tools. Out: messages that any template can show. The words are laid out as Hermes' and Qwen's
templates lay them out, for that is the form of a call that `ajet.chat.tool_calls` reads. Without this, such a template
would leave tools, calls and results out silently, and the model would be asked for what it was never told of.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ajet.chat.tool_calls import CLOSE, OPEN
from ajet.chat.types import ToolSchema

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PROBE = "a_tool_that_a_template_shows"


def template_shows_tools(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the chat template names a tool that it is given."""
    tool = {"type": "function", "function": {"name": _PROBE, "description": "", "parameters": {}}}
    try:
        # With the prompt for a reply: some templates list tools right before it.
        shown = tokenizer.apply_chat_template(
            [{"role": "user", "content": "x"}], tools=[tool], tokenize=False, add_generation_prompt=True
        )
    except Exception:  # the boundary to templates that others write; the request itself will say what is wrong
        return True
    return _PROBE in str(shown)


def with_tools_as_text(messages: Sequence[Mapping[str, Any]], tools: Sequence[ToolSchema]) -> list[dict[str, Any]]:
    """The messages with the tools told in the system message, and calls and results as text.

    Args:
        messages: plain, as `ajet.chat.messages.plain_messages` gives them.
        tools: what the agent may call; none: only calls and results of earlier turns are put into text.
    """
    told = [{"role": "system", "content": ""}, *messages] if tools and not _begins_with_system(messages) else messages
    return [
        {"role": "system", "content": _told(message["content"], tools)}
        if tools and number == 0
        else {"role": message["role"], "content": message["content"]}
        for number, message in enumerate(_with_text(told))
    ]


def _begins_with_system(messages: Sequence[Mapping[str, Any]]) -> bool:
    return bool(messages) and messages[0]["role"] == "system"


def _told(system: str, tools: Sequence[ToolSchema]) -> str:
    listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    text = (
        "You may call one or more functions. Here are their signatures, within <tools></tools>:\n"
        f"<tools>\n{listed}\n</tools>\n\n"
        f"To call one, write its name and arguments as a JSON object within {OPEN}{CLOSE}:\n"
        f'{OPEN}{{"name": <name>, "arguments": <arguments as an object>}}{CLOSE}'
    )
    return f"{system}\n\n{text}" if system else text


def _with_text(messages: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Calls behind their message's text; results that follow each other as one message of the user."""
    results: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            results.append(f"<tool_response>\n{message['content']}\n</tool_response>")
            continue
        if results:
            yield {"role": "user", "content": "\n".join(results)}
            results = []
        calls = [call["function"] for call in message.get("tool_calls", ())]
        yield {"role": message["role"], "content": message["content"] + "".join(_call_text(call) for call in calls)}
    if results:
        yield {"role": "user", "content": "\n".join(results)}


def _call_text(call: Mapping[str, Any]) -> str:
    return OPEN + json.dumps({"name": call["name"], "arguments": call["arguments"]}, ensure_ascii=False) + CLOSE
