"""One way from an episode to text: for the console, W&B, the report and the viewer.

In: messages, calls and rewards as they are recorded. Out: plain text as the model or the program wrote it; escaping and
layout are the reader's part.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def message_text(message: Mapping[str, Any]) -> str:
    """What a message says: its text, and the tools that it calls.

    Example: `{"content": [{"text": "Hi."}], "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}` is
    `Hi.`, a line end, and `{"name": "f", "arguments": "{}"}`.
    """
    content = message.get("content")
    if content is None:
        content = ""
    if isinstance(content, list | tuple):
        content = "\n".join(_part_text(part) for part in content)
    calls = [json.dumps(call.get("function", call), ensure_ascii=False) for call in message.get("tool_calls") or ()]
    return "\n".join(text for text in (str(content), *calls) if text)


def _part_text(part: Any) -> str:
    """A part of a message's content; what has no text, a picture say, as it is written."""
    if not isinstance(part, Mapping):
        return str(part)
    return str(part["text"]) if "text" in part else json.dumps(part, default=str)


def last_message_text(messages: Sequence[Mapping[str, Any]], *, most: int) -> str:
    """The end of the last message of a request: programs tend to repeat the history before it.

    Args:
        messages: of the request.
        most: characters shown; what is left out before them is marked by an ellipsis.
    """
    text = message_text(messages[-1]) if messages else ""
    return text if len(text) <= most else f"…{text[-most:]}"


def rewards_text(rewards: Mapping[str, float]) -> str:
    """`Player1 1 Player2 0.5`; empty without rewards."""
    return " ".join(f"{name} {reward:g}" for name, reward in rewards.items())


def reply_line(agent_name: str, target_tag: str, reply: str) -> str:
    """Who said what, e.g. `Player1 (seer): I saw a wolf.`"""
    return f"{agent_name} ({target_tag}): {reply}"
