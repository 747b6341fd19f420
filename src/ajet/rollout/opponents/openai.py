"""`opponent=openai`: any OpenAI-compatible URL behind the roles that are not trained.

The reply's own tool calls are taken as the server gives them; nothing is recorded as tokens, since nothing
here is trained. Failures are the server's: they end the episode as infrastructure failures.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from ajet.chat.messages import results_in_call_order
from ajet.chat.strict_json import NotJsonError, checked_arguments, read_json
from ajet.chat.types import ChatReply, ChatRequest, Message, NamedTool, ToolCall, ToolChoice
from ajet.config.fields import key_variable, named, needed, read_key, ruled
from ajet.errors import EngineError
from ajet.rollout.opponents.base import OpponentConfig, OpponentMaker

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from ajet.workflow import Workflow


@dataclass
class OpenAIConfig(OpponentConfig):
    """Any OpenAI-compatible server. Null leaves a sampling setting to it."""

    name: str = named("openai")
    base_url: str = needed("the server's address, e.g. http://localhost:8000/v1")
    """Where the API is, e.g. http://localhost:8000/v1."""
    model: str = needed("the model's name there")
    """The model's name there."""
    api_key_env: str | None = key_variable(sent_to="base_url")
    """Name of the environment variable with the key, so that no key lands in a run directory; null for servers without
    keys."""
    temperature: float | None = ruled(1.0, at_least=0)
    """Sampling temperature."""
    max_tokens: int | None = ruled(512, at_least=1)
    """Most tokens a reply."""
    timeout_s: float | None = ruled(60.0, above=0)
    """Seconds to wait for a reply."""

    def build(self, *, workflow: type[Workflow]) -> OpponentMaker:
        """One client for all agents and episodes."""
        from openai import AsyncOpenAI

        key = read_key("opponent.api_key_env", self.api_key_env)
        player = OpenAIPlayer(self, AsyncOpenAI(base_url=self.base_url, api_key=key, timeout=self.timeout_s))
        return lambda agent: player

    @override
    def check(self) -> None:
        read_key("opponent.api_key_env", self.api_key_env)


class OpenAIPlayer:
    """Speaks through a chat-completions API."""

    def __init__(self, config: OpenAIConfig, client: AsyncOpenAI) -> None:
        """`client` carries URL, key and timeout."""
        self._client = client
        self._model = config.model
        self._sampling: dict[str, Any] = {}
        if config.temperature is not None:
            self._sampling["temperature"] = config.temperature
        if config.max_tokens is not None:
            self._sampling["max_tokens"] = config.max_tokens

    async def chat(self, request: ChatRequest) -> ChatReply:
        """Ask the server.

        Raises:
            EngineError: it did not answer as a chat-completions server does.
        """
        from openai import OpenAIError  # not above: it takes most of a second, and `--help` loads configurations

        arguments: dict[str, Any] = {"messages": _wire_messages(request.messages), **self._sampling}
        if request.tools:
            arguments["tools"] = list(request.tools)
            arguments["tool_choice"] = _wire_tool_choice(request.tool_choice)
        if request.max_tokens is not None:
            # As for the policy: a program may ask for less than the run allows, not for more.
            arguments["max_tokens"] = min(request.max_tokens, arguments.get("max_tokens", request.max_tokens))
        if request.stop:
            arguments["stop"] = list(request.stop)
        if request.seed is not None:
            arguments["seed"] = request.seed
        try:
            completion = await self._client.chat.completions.create(model=self._model, **arguments)
        except OpenAIError as error:
            raise EngineError(f"The opponent's server failed: {error}") from error
        if not completion.choices:
            raise EngineError("The opponent's server failed: it answered without a reply.")
        choice = completion.choices[0]
        calls = [
            ToolCall(name=call.function.name, arguments=call.function.arguments)
            for call in choice.message.tool_calls or []
        ]
        return _checked(choice.message.content or "", calls)


def _checked(content: str, calls: list[ToolCall]) -> ChatReply:
    """Malformed arguments of a remote model are shown to the agent as text, like the policy's own."""
    for call in calls:
        try:
            checked_arguments(read_json(call.arguments))
        except NotJsonError as reason:
            error = f"the arguments of {call.name} are not a JSON object: the text {reason}"
            return ChatReply(content=f"{content}{call.arguments}\n[format error: {error}]", format_error=error)
    return ChatReply(content=content, tool_calls=tuple(calls))


def _wire_tool_choice(tool_choice: ToolChoice) -> Any:
    if isinstance(tool_choice, NamedTool):
        return {"type": "function", "function": {"name": tool_choice.name}}
    return tool_choice


def _wire_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages with what the API wants: arguments as text, an id for each call, and each result naming its call.

    Ids that the program chose are kept; where there are none, results follow their calls in order.
    """
    wire: list[dict[str, Any]] = []
    unanswered: list[str] = []
    for message in results_in_call_order(messages):
        copy = dict(message)
        if copy.get("tool_calls"):
            copy["tool_calls"] = [
                _wire_call(call, f"call_{len(wire)}_{i}") for i, call in enumerate(copy["tool_calls"])
            ]
            unanswered = [call["id"] for call in copy["tool_calls"]]
        elif copy["role"] == "tool":
            call_id = copy.get("tool_call_id")
            if call_id not in unanswered:
                call_id = unanswered[0] if unanswered else call_id or "call_unknown"
            copy["tool_call_id"] = call_id
            unanswered = [other for other in unanswered if other != call_id]
        wire.append(copy)
    return wire


def _wire_call(call: Message, made_up_id: str) -> dict[str, Any]:
    function = call["function"]
    arguments = function["arguments"]
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {
        "id": call.get("id") or made_up_id,
        "type": "function",
        "function": {"name": function["name"], "arguments": text},
    }
