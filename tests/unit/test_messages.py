"""Messages in plain form: each result stands with its call, whoever made the ids and however they came back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ajet.chat.messages import plain_messages, results_in_call_order
from ajet.chat.types import ChatReply, ChatRequest, NamedTool
from ajet.errors import WorkflowError
from ajet.rollout.opponents.openai import OpenAIConfig, OpenAIPlayer


def calling(*ids: str | None) -> dict[str, Any]:
    function = {"name": "look", "arguments": "{}"}
    calls: list[dict[str, Any]] = [{"type": "function", "function": function} for _ in ids]
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [call | ({"id": i} if i else {}) for call, i in zip(calls, ids, strict=True)],
    }


def result(call_id: str | None, text: str = "") -> dict[str, Any]:
    return {"role": "tool", "content": text or str(call_id)} | ({"tool_call_id": call_id} if call_id else {})


def contents(messages: Any) -> list[str]:
    return [message["content"] for message in messages if message["role"] != "assistant"]


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([calling("a", "b"), result("b"), result("a")], ["a", "b"]),
        ([calling("a", "b", "c"), result("c"), result("x"), result("a")], ["a", "x", "c"]),
        ([calling("a", "b"), result(None, "1"), result(None, "2")], ["1", "2"]),
        ([calling(None, None), result("b"), result("a")], ["b", "a"]),
        ([calling("a", "b"), result("b", "1"), result("b", "2"), result("a", "3")], ["3", "1", "2"]),
        ([calling("a", "b"), result("b"), calling("a", "b"), result("a")], ["b", "a"]),
        ([calling("a", "b"), result("b"), {"role": "user", "content": "Well?"}, result("a")], ["a", "Well?", "b"]),
        ([result("a"), calling("a", "a"), result("a", "1"), result("a", "2")], ["a", "1", "2"]),
    ],
)
def test_results_stand_in_the_order_of_their_calls(messages: Any, expected: list[str]) -> None:
    assert contents(results_in_call_order(messages)) == expected
    assert contents(plain_messages(messages)) == expected


@given(st.permutations(list("abcdef")))
def test_any_order_of_the_results_is_one_conversation(order: list[str]) -> None:
    asked = [{"role": "user", "content": "Look around."}, calling(*"abcdef")]
    straight = plain_messages([*asked, *map(result, "abcdef")])
    assert plain_messages([*asked, *map(result, order)]) == straight


class Keeps:
    """Keeps what the API was sent."""

    def __init__(self, *calls: Any) -> None:
        self.calls = list(calls)
        self.chat = self
        self.completions = self
        self.sent: dict[str, Any] = {}

    async def create(self, **sent: Any) -> Any:
        from openai.types.chat import ChatCompletion

        self.sent = sent
        message = {"role": "assistant", "content": "Done.", "tool_calls": self.calls or None}
        choices = [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}]
        return ChatCompletion.model_validate(
            {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": choices}
        )


def sent_on(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    client: Any = Keeps()
    player = OpenAIPlayer(OpenAIConfig(model="m", temperature=None, max_tokens=None), client)
    assert asyncio.run(player.chat(ChatRequest(messages=messages))) == ChatReply(content="Done.")
    return list(client.sent["messages"])


def test_a_remote_opponent_gets_each_result_under_its_calls_id_and_arguments_as_the_text_that_they_were() -> None:
    named = sent_on(calling("a", "b"), result("b"))
    assert [call["id"] for call in named[0]["tool_calls"]] == ["a", "b"] and named[1]["tool_call_id"] == "b"
    assert [call["function"]["arguments"] for call in named[0]["tool_calls"]] == ["{}", "{}"]
    plain = sent_on(*plain_messages([calling(None, None), result(None, "1"), result(None, "2")]))
    assert [message["tool_call_id"] for message in plain[1:]] == [call["id"] for call in plain[0]["tool_calls"]]
    assert plain[0]["tool_calls"][0]["function"]["arguments"] == "{}"


def test_a_tool_choice_is_a_mode_or_a_named_tool() -> None:
    assert ChatRequest(messages=[], tool_choice=NamedTool("auto")).tool_choice != "auto"
    with pytest.raises(WorkflowError, match="auto, none, required, nor NamedTool"):
        ChatRequest(messages=[], tool_choice="look")  # type: ignore[arg-type]


@pytest.mark.parametrize("arguments", ['{"x": NaN}', '{"x": 1e999}', '{"x": 1, "x": 2}', "[1]", "9" * 5000, "[" * 5000])
def test_a_remote_opponents_arguments_are_read_as_strictly_as_the_policys(arguments: str) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": arguments}}
    client: Any = Keeps(call)
    player = OpenAIPlayer(OpenAIConfig(model="m", temperature=None, max_tokens=None), client)
    reply = asyncio.run(player.chat(ChatRequest(messages=[])))
    assert not reply.tool_calls and reply.format_error is not None and arguments in reply.content


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
calls = st.lists(
    st.fixed_dictionaries(
        {"function": st.fixed_dictionaries({"name": st.text() | json_values, "arguments": st.text() | json_values})},
        optional={"id": st.sampled_from(["a", "b"]) | json_values},
    )
    | json_values,
    max_size=3,
)
odd_messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "tool", "system"])},
        optional={
            "content": st.text() | json_values,
            "tool_calls": calls | json_values,
            "tool_call_id": st.sampled_from(["a", "b"]) | json_values,
        },
    ),
    max_size=5,
)


@given(odd_messages)
def test_whatever_a_program_sends_is_plain_or_refused_in_words(messages: list[dict[str, Any]]) -> None:
    try:
        plain = plain_messages(messages)
    except WorkflowError:
        return
    assert [message["role"] for message in plain] == [message["role"] for message in messages]
    assert all(isinstance(message["content"], str) for message in plain) and plain_messages(plain) == plain


@pytest.mark.parametrize("levels", [90, 300, 900, 5000])
def test_arguments_in_the_history_that_nest_too_deep_are_shown_as_text(levels: int) -> None:
    arguments = '{"x": ' * levels + "1" + "}" * levels
    called = {"role": "assistant", "tool_calls": [{"function": {"name": "look", "arguments": arguments}}]}
    (message,) = plain_messages([called])
    shown = message["tool_calls"][0]["function"]["arguments"]
    assert isinstance(shown, dict) if levels == 90 else shown == arguments
