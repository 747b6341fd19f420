"""What `tuner.as_agentscope_model()` returns keeps AgentScope's ChatModelBase contract."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pytest

from ajet.chat.types import ChatReply, ChatRequest, NamedTool, ToolCall
from ajet.rollout.agents.agentscope import STRUCTURED_TOOL, AgentScopeModel

# agentscope can only be imported once ajet has put mcp's old names in place.
from agentscope.agent import ReActAgent  # isort: skip
from agentscope.formatter import DashScopeMultiAgentFormatter  # isort: skip
from agentscope.message import Msg  # isort: skip
from agentscope.model import ChatModelBase  # isort: skip
from pydantic import BaseModel


class Vote(BaseModel):
    """Vote for somebody."""

    target: Literal["Player1", "Player2"]


class Replies:
    """A chat model that gives prepared replies in turn and keeps the requests."""

    def __init__(self, *replies: ChatReply) -> None:
        self._replies = list(replies)
        self.requests: list[ChatRequest] = []

    async def chat(self, request: ChatRequest) -> ChatReply:
        self.requests.append(request)
        return self._replies.pop(0)


def vote(target: str, *, name: str = "generate_response", content: str = "I know.") -> ChatReply:
    return ChatReply(content=content, tool_calls=(ToolCall(name=name, arguments=f'{{"target": "{target}"}}'),))


TOOL = {"type": "function", "function": {"name": "see", "parameters": {"type": "object", "properties": {}}}}
ASK = [{"role": "user", "content": [{"type": "text", "text": "Vote."}]}]


def ask(replies: Replies, **arguments: Any) -> Any:
    return asyncio.run(AgentScopeModel(replies, name="P1")(ASK, **arguments))


def test_it_is_a_chat_model_that_does_not_stream() -> None:
    model = AgentScopeModel(Replies(), name="P1")
    assert isinstance(model, ChatModelBase) and model.stream is False and model.model_name == "P1"


def test_tools_and_choice_reach_the_model_and_calls_come_back_as_blocks() -> None:
    replies = Replies(vote("Player1", name="see"))
    response = ask(replies, tools=[TOOL], tool_choice="required")
    assert replies.requests[0].tools == [TOOL] and replies.requests[0].tool_choice == "required"
    assert replies.requests[0].messages == [{"role": "user", "content": "Vote."}]
    text, call = response.content
    assert (text["type"], text["text"]) == ("text", "I know.")
    assert (call["type"], call["name"], call["input"]) == ("tool_use", "see", {"target": "Player1"})


def test_a_response_says_how_many_tokens_it_took() -> None:
    usage = ask(Replies(ChatReply(content="Hi.", num_prompt_tokens=7, num_sampled_tokens=2))).usage
    assert (type(usage).__name__, usage.input_tokens, usage.output_tokens) == ("ChatUsage", 7, 2)


def test_any_is_agentscopes_older_word_for_required() -> None:
    replies = Replies(ChatReply(content=""))
    ask(replies, tools=[TOOL], tool_choice="any")
    assert replies.requests[0].tool_choice == "required"


def test_an_unknown_tool_choice_is_refused_as_agentscope_does() -> None:
    with pytest.raises(ValueError) as theirs:
        ChatModelBase._validate_tool_choice(AgentScopeModel(Replies(), name="P1"), "fly", [TOOL])
    with pytest.raises(ValueError, match="Invalid tool_choice") as ours:
        ask(Replies(), tools=[TOOL], tool_choice="fly")
    assert str(ours.value) == str(theirs.value)


def test_a_structured_model_becomes_a_tool_and_fills_metadata_only_if_it_fits() -> None:
    replies = Replies(vote("Player2", name=STRUCTURED_TOOL), vote("Player9", name=STRUCTURED_TOOL))
    assert ask(replies, structured_model=Vote).metadata == {"target": "Player2"}
    assert ask(replies, structured_model=Vote).metadata is None
    (tool,) = replies.requests[0].tools
    assert tool["function"]["name"] == STRUCTURED_TOOL
    assert replies.requests[0].tool_choice == NamedTool(STRUCTURED_TOOL)


def test_generation_arguments_reach_the_model_as_they_would_by_url() -> None:
    replies = Replies(ChatReply(content="Hi."))
    ask(replies, max_tokens=5, stop="x", seed=3, top_p=0.5)
    (request,) = replies.requests
    assert (request.max_tokens, request.stop, request.seed, request.settings) == (5, ("x",), 3, {"top_p": 0.5})


def test_concurrent_calls_each_get_their_own_reply() -> None:
    model = AgentScopeModel(Replies(*(ChatReply(content=str(i)) for i in range(5))), name="P1")

    async def all_at_once() -> list[Any]:
        return list(await asyncio.gather(*(model(ASK) for _ in range(5))))

    responses = asyncio.run(all_at_once())
    assert [response.content[0]["text"] for response in responses] == ["0", "1", "2", "3", "4"]
    assert len({response.id for response in responses}) == 5


def react(replies: Replies) -> Any:
    agent = ReActAgent(
        name="P1",
        sys_prompt="You are P1.",
        model=AgentScopeModel(replies, name="P1"),
        formatter=DashScopeMultiAgentFormatter(),
        max_iters=3,
    )
    agent.set_console_output_enabled(False)
    return asyncio.run(agent(Msg("Moderator", "Vote.", "user"), structured_model=Vote))


def test_an_agent_decides_in_one_call_where_text_stands_beside_the_tool_call() -> None:
    replies = Replies(vote("Player1"))
    assert react(replies).metadata == {"target": "Player1"}
    assert len(replies.requests) == 1


def test_an_agent_sees_a_malformed_reply_and_an_illegal_choice_and_may_mend_them() -> None:
    broken = ChatReply(content="<tool_call>{\n[format error: not valid JSON]", format_error="not valid JSON")
    replies = Replies(broken, vote("Player9"), vote("Player2"))
    assert react(replies).metadata == {"target": "Player2"}
    second, third = (str(request.messages) for request in replies.requests[1:])
    assert "format error: not valid JSON" in second and "Validation Error" in third


def test_an_agent_that_never_decides_has_no_metadata() -> None:
    assert react(Replies(*(ChatReply(content="hm") for _ in range(4)))).metadata is None
