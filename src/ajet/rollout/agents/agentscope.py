"""AgentScope 1.0: a `ChatModel` as a ChatModelBase, with tools, tool_choice and structured_model.

`tool_choice` and `structured_model` only say what is expected: sampling stays free and the reply is parsed.
A reply that does not fit reaches the agent as text with the reason, which ReActAgent answers with another turn.
"""

from __future__ import annotations

import json
from typing import Any, get_args

from ajet.errors import require_extra
from ajet.rollout.agents.agentscope_names import alias_mcp_names

require_extra("agentscope", needed_by="tuner.as_agentscope_model")
alias_mcp_names()

from agentscope.message import TextBlock, ToolUseBlock  # noqa: E402
from agentscope.model import ChatModelBase, ChatResponse  # noqa: E402
from agentscope.model._model_usage import ChatUsage  # noqa: E402
from pydantic import BaseModel, ValidationError  # noqa: E402

from ajet.chat.messages import plain_messages  # noqa: E402
from ajet.chat.types import ChatModel, ChatReply, ChatRequest, NamedTool, ToolChoice, ToolChoiceMode  # noqa: E402

STRUCTURED_TOOL = "generate_structured_output"


class AgentScopeModel(ChatModelBase):  # type: ignore[misc]
    """What `tuner.as_agentscope_model()` returns."""

    def __init__(self, model: ChatModel, *, name: str) -> None:
        """`name` shows in AgentScope's traces."""
        super().__init__(name, False)
        self._model = model
        self._num_calls = 0

    async def __call__(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None = None,
        tool_choice: str | None = None,
        structured_model: type[BaseModel] | None = None,
        **kwargs: Any,
    ) -> ChatResponse:
        """Answer one request; of generation arguments `max_tokens`, `stop` and `seed` are followed.

        Raises:
            WorkflowError: an argument that would change a trained agent's sampling distribution.
        """
        followed = {name: kwargs.pop(name) for name in ("max_tokens", "seed") if name in kwargs}
        stop = kwargs.pop("stop", None) or ()
        choice: ToolChoice = "auto"
        if tool_choice is not None:
            choice = _choice(tool_choice, tools or [])
        if structured_model is not None:
            tools, choice = [_structured_tool(structured_model)], NamedTool(STRUCTURED_TOOL)
        reply = await self._model.chat(
            ChatRequest(
                messages=plain_messages(messages),
                tools=tools or [],
                tool_choice=choice,
                stop=(stop,) if isinstance(stop, str) else tuple(stop),
                settings=kwargs,
                **followed,
            )
        )
        return self._response(reply, structured_model)

    def _response(self, reply: ChatReply, structured_model: type[BaseModel] | None) -> ChatResponse:
        self._num_calls += 1
        reply_id = reply.id or str(self._num_calls)
        blocks: list[TextBlock | ToolUseBlock] = []
        if reply.content:
            blocks.append(TextBlock(type="text", text=reply.content))
        arguments = [json_object(call.arguments) for call in reply.tool_calls]
        for i, call in enumerate(reply.tool_calls):
            call_id = f"call_{reply_id}_{i}"
            blocks.append(ToolUseBlock(type="tool_use", id=call_id, name=call.name, input=arguments[i]))
        usage = ChatUsage(input_tokens=reply.num_prompt_tokens, output_tokens=reply.num_sampled_tokens, time=0.0)
        metadata = None
        if structured_model is not None and arguments:
            metadata = _validated(structured_model, arguments[0])
        return ChatResponse(id=reply_id, content=blocks, usage=usage, metadata=metadata)


def _choice(tool_choice: str, tools: list[dict[str, Any]]) -> ToolChoice:
    """Modes and tools' names are text alike in AgentScope, which reads a mode first; "any" is an older "required".

    Raises:
        ValueError: neither a mode nor one of the tools, in AgentScope's words.
    """
    if tool_choice == "any":
        return "required"
    modes, names = get_args(ToolChoiceMode), [tool["function"]["name"] for tool in tools]
    if tool_choice not in (*modes, *names):
        options = ", ".join(sorted([*modes, *names]))
        raise ValueError(f"Invalid tool_choice '{tool_choice}'. Available options: {options}")
    return next((mode for mode in modes if mode == tool_choice), NamedTool(tool_choice))


def json_object(arguments: str) -> dict[str, Any]:
    """Arguments that the parser has accepted, as an object."""
    value: dict[str, Any] = json.loads(arguments)
    return value


def _structured_tool(model: type[BaseModel]) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": STRUCTURED_TOOL,
            "description": model.__doc__ or "Give the required output.",
            "parameters": model.model_json_schema(),
        },
    }


def _validated(model: type[BaseModel], arguments: dict[str, Any]) -> dict[str, Any] | None:
    try:
        return model.model_validate(arguments).model_dump()
    except ValidationError:
        return None
