"""Replies are parsed strictly: usable, or an error in words."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ajet.agents.speakers import reply_as_text
from ajet.chat.tool_calls import parse_reply
from ajet.chat.types import ChatReply, NamedTool, ToolCall, ToolSchema

VOTE: ToolSchema = {
    "type": "function",
    "function": {
        "name": "vote",
        "parameters": {
            "type": "object",
            "properties": {"target": {"enum": ["Player3", "nobody"]}},
            "required": ["target"],
        },
    },
}
SAY: ToolSchema = {"type": "function", "function": {"name": "say"}}
GOOD = '<tool_call>{"name": "vote", "arguments": {"target": "Player3"}}</tool_call>'


def test_text_beside_a_tool_call_is_kept_as_content() -> None:
    reply = parse_reply(f"I know.{GOOD}", tools=[VOTE], tool_choice="required")
    assert reply.content == "I know."
    assert reply.tool_calls == (ToolCall(name="vote", arguments='{"target": "Player3"}'),)
    assert reply.format_error is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('<tool_call>{"name": "vote", "arguments": {"target": "Player3"}', "not closed"),
        ('<tool_call>{"name": "vote", "arguments": {target: 3}}</tool_call>', "not valid JSON"),
        ('<tool_call>{"name": "fly", "arguments": {}}</tool_call>', "no tool is called 'fly'"),
        ('<tool_call>{"name": "vote"}</tool_call>', "exactly the keys"),
        ('<tool_call>{"name": "vote", "arguments": [1]}</tool_call>', "must be an object"),
        ('<tool_call>{"name": "vote", "name": "vote", "arguments": {}}</tool_call>', "twice"),
        ("x</tool_call>", "without"),
        ('<tool_call>{"name": "vote", "arguments": {"target": "\\ud83d"}}</tool_call>', "surrogate"),
        (f"<tool_call>{'[' * 5000}</tool_call>", "too deep"),
        (f"<tool_call>{'9' * 5000}</tool_call>", "too long a number"),
        (f'<tool_call>{{"name": "vote", "arguments": {{"a": {"[" * 60}{"]" * 60}}}}}</tool_call>', "50 levels"),
    ],
)
def test_a_malformed_call_is_shown_with_the_reason_and_not_repaired(text: str, reason: str) -> None:
    reply = parse_reply(text, tools=[VOTE], tool_choice="required")
    assert reply.tool_calls == ()
    assert reply.format_error is not None and reason in reply.format_error
    assert text.strip() in reply.content and reply.format_error in reply.content


def test_a_missing_call_is_an_error_only_where_one_was_required() -> None:
    assert parse_reply("hello", tools=[VOTE], tool_choice="auto").format_error is None
    assert parse_reply("hello", tools=[VOTE], tool_choice="none").format_error is None
    required = parse_reply("hello", tools=[VOTE], tool_choice="required")
    assert required.format_error is not None and required.content == "hello"


def test_a_call_is_an_error_where_none_is_allowed() -> None:
    assert parse_reply(GOOD, tools=[VOTE], tool_choice="none").format_error is not None


def test_another_tool_than_the_named_one_is_an_error() -> None:
    reply = parse_reply(GOOD, tools=[VOTE, SAY], tool_choice=NamedTool("say"))
    assert reply.format_error is not None and "say" in reply.format_error


def test_two_calls_are_an_error_where_one_at_a_time_was_asked_for() -> None:
    assert len(parse_reply(GOOD + GOOD, tools=[VOTE], tool_choice="auto").tool_calls) == 2
    one = parse_reply(GOOD + GOOD, tools=[VOTE], tool_choice="auto", parallel=False)
    assert one.format_error is not None and "one tool" in one.format_error
    assert parse_reply(GOOD, tools=[VOTE], tool_choice="auto", parallel=False).format_error is None


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"target": "Player7"}, "target: 'Player7' is not one of ['Player3', 'nobody']"),
        ({}, "of vote: 'target' is a required property"),
    ],
)
def test_arguments_that_do_not_fit_the_parameters_are_told_of_and_left_to_the_agent(
    arguments: dict[str, object], reason: str
) -> None:
    text = f"I know.<tool_call>{json.dumps({'name': 'vote', 'arguments': arguments})}</tool_call>"
    reply = parse_reply(text, tools=[VOTE], tool_choice="required")
    assert reply.format_error is not None and reply.format_error.endswith(reason)
    assert reply.content == "I know." and [call.name for call in reply.tool_calls] == ["vote"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"type": "player"},
        {"properties": {"target": {"$ref": "https://example.com/player.json"}}},
        {"properties": {"target": {"$ref": "#/$defs/missing"}}},
        {"$ref": "#"},
        None,
    ],
)
def test_a_schema_that_cannot_be_followed_holds_no_arguments_against_anybody(
    parameters: dict[str, object] | None,
) -> None:
    tool = {"type": "function", "function": {"name": "vote", "parameters": parameters}}
    assert parse_reply(GOOD, tools=[tool], tool_choice="required").format_error is None


json_values = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v), max_leaves=5)


@given(
    content=st.text(alphabet=st.characters(exclude_characters="<>", exclude_categories=["Cs"])).map(str.strip),
    arguments=st.dictionaries(st.text(), json_values, max_size=3),
)
def test_what_is_written_as_text_is_read_back(content: str, arguments: dict[str, object]) -> None:
    written = ChatReply(content=content, tool_calls=(ToolCall(name="say", arguments=json.dumps(arguments)),))
    if "<tool_call>" in json.dumps(arguments) or "</tool_call>" in json.dumps(arguments):
        return
    read = parse_reply(reply_as_text(written), tools=[SAY], tool_choice="required")
    assert read.format_error is None
    assert read.content == content
    assert json.loads(read.tool_calls[0].arguments) == arguments
