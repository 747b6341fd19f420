"""What an agent asks of a model, what it gets, and whether it got it: OpenAI's chat shapes, whatever the framework.

Everything that can answer an agent (the policy, a frozen copy, a scripted player, a remote API) is a `ChatModel`; the
adapters in `ajet.rollout.agents` wrap one for each framework.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

from ajet.errors import WorkflowError
from ajet.records import FinishReason

Message = Mapping[str, Any]
"""One message, OpenAI format: role, content (str), and tool_calls / tool_call_id / name where they apply."""
ToolSchema = Mapping[str, Any]
"""One tool, OpenAI format: {"type": "function", "function": {"name", "description", "parameters"}}."""


@dataclass(frozen=True, slots=True)
class NamedTool:
    """The `tool_choice` that names a tool. A type of its own, since a tool may be called `auto` or `none`."""

    name: str


ToolChoiceMode = Literal["auto", "none", "required"]
ToolChoice = ToolChoiceMode | NamedTool


def is_text(value: str) -> bool:
    """Whether it is made of characters alone: JSON can spell half of a surrogate pair, which nothing can encode."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


class Delivery:
    """Whether one reply reached the program that asked for it: only then did the call happen, to the agent and the
    trainer alike.

    A client may hang up, be cancelled or lose patience while its reply is sampled or under way, and then ask again. So
    the model says what is to happen once the reply is there (`when_received`), and whoever hands the reply over says
    that it is (`confirm`).
    """

    def __init__(self) -> None:
        """Nothing is under way yet."""
        self._pending: tuple[asyncio.AbstractEventLoop, Callable[[], None]] | None = None

    def when_received(self, effect: Callable[[], None]) -> None:
        """Call once the reply is sampled, on the models' loop; `effect` will run there too, or never."""
        self._pending = asyncio.get_running_loop(), effect

    def confirm(self) -> None:
        """The reply is being handed over. Call from a loop on any thread, before the program can act on it."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        loop, effect = pending
        if asyncio.get_running_loop() is loop:
            effect()
            return
        # What the program does next reaches the models' loop behind this call, its next request and its end included.
        with suppress(RuntimeError):  # that loop is closed: the run is over, and its record is no longer read
            loop.call_soon_threadsafe(effect)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """One parsed tool call."""

    name: str
    arguments: str
    """A JSON object, as text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """One model request."""

    messages: Sequence[Message]
    tools: Sequence[ToolSchema] = ()
    tool_choice: ToolChoice = "auto"
    """Whether a tool may or must be called, and which. Sampling is held to it by `rollout.grammar=tools` alone."""
    parallel_tool_calls: bool = True
    """Whether one reply may make several tool calls."""
    max_tokens: int | None = None
    """Most tokens to sample; None leaves it to `rollout.max_tokens`."""
    stop: Sequence[str] = ()
    """The reply ends before the first of these texts."""
    seed: int | None = None
    """Asks for the same reply to the same request, within one episode; the policy's episodes still differ."""
    prompt: str | tuple[int, ...] | None = None
    """Text or token ids to continue as they stand, without the chat template; `messages` then say the text to those
    who only chat, and are empty for token ids."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What else the program asked for, e.g. top_p, by OpenAI's names: checked, never followed."""
    with_token_texts: bool = False
    """Whether the reply should hold the text of each sampled token."""
    delivery: Delivery | None = field(default=None, compare=False, repr=False)
    """Says when the reply has reached the program; None: it has as soon as `chat` returns, for the program awaits it
    itself."""

    def __post_init__(self) -> None:
        if not isinstance(self.tool_choice, NamedTool) and self.tool_choice not in get_args(ToolChoiceMode):
            modes = ", ".join(get_args(ToolChoiceMode))
            raise WorkflowError(
                f"tool_choice={self.tool_choice!r} is not one of {modes}, nor NamedTool(<tool's name>)."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatReply:
    """One model reply."""

    content: str
    """The text outside tool calls; the whole raw text if there was a format error."""
    id: str = ""
    """Unique within the episode, the same in two runs of one seed; the ids of its tool calls are made from it. Empty
    for replies of a bare model: the interface that hands them on numbers them."""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: FinishReason = "stop"
    format_error: str | None = None
    """What is wrong with the reply's tool calls, in words that the agent can act on. Unless it is only that
    arguments do not fit the tool's parameters, there are none to use."""
    num_prompt_tokens: int = 0
    num_sampled_tokens: int = 0
    prompt_ids: tuple[int, ...] = ()
    """Token ids of the prompt; empty, as the next three, for players without tokens."""
    sampled_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    """One per sampled id, from the engine."""
    token_texts: tuple[str, ...] = ()
    """One per sampled id, where the request asked for them."""


class ChatModel(Protocol):
    """Answers one agent in one episode."""

    async def chat(self, request: ChatRequest) -> ChatReply:
        """Answer one request."""
        ...
