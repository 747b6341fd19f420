"""Replies are parsed strictly: usable, or an error in words."""

from __future__ import annotations

import functools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ajet.chat.messages import plain_messages
from ajet.chat.tool_calls import parse_reply, reply_as_text
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


def pay(x: str) -> str:
    return f'<tool_call>{{"name": "pay", "arguments": {{"x": {x}}}}}</tool_call>'


def pay_tool(**schema: object) -> ToolSchema:
    parameters = {"type": "object", "properties": {"x": schema}}
    return {"type": "function", "function": {"name": "pay", "parameters": parameters}}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "[[1e400]]", '{"y": NaN}'])
def test_a_number_that_json_does_not_have_is_a_format_error(number: str) -> None:
    reply = parse_reply(pay(number), tools=[pay_tool(multipleOf=0.01)], tool_choice="auto")
    assert not reply.tool_calls and reply.format_error is not None and reply.content.startswith(pay(number))
    assert "which is not JSON" in reply.format_error or "too large for a number" in reply.format_error
    (message,) = plain_messages(
        [{"role": "assistant", "tool_calls": [{"function": {"name": "pay", "arguments": f'{{"x": {number}}}'}}]}]
    )
    assert message["tool_calls"][0]["function"]["arguments"] == f'{{"x": {number}}}'


@pytest.mark.parametrize("levels", [49, 50, 300, 990, 5000])
def test_arguments_nest_as_deep_as_is_said_and_no_deeper(levels: int) -> None:
    """The object itself is the first level."""
    reply = parse_reply(pay("[" * (levels - 1) + "1" + "]" * (levels - 1)), tools=[pay_tool()], tool_choice="auto")
    assert (reply.format_error is None) == (levels <= 50), reply.format_error


@pytest.mark.parametrize("name", ["auto", "none", "required"])
def test_a_tool_may_be_called_like_a_choice(name: str) -> None:
    tool: ToolSchema = {"type": "function", "function": {"name": name}}
    call = f'<tool_call>{{"name": "{name}", "arguments": {{}}}}</tool_call>'
    assert parse_reply("hello", tools=[tool], tool_choice="auto").format_error is None
    assert parse_reply(call, tools=[tool], tool_choice="auto").format_error is None
    assert parse_reply(call, tools=[tool], tool_choice="none").format_error is not None
    assert parse_reply("hello", tools=[tool], tool_choice="required").format_error is not None
    assert parse_reply("hello", tools=[tool], tool_choice=NamedTool(name)).format_error is not None
    assert [c.name for c in parse_reply(call, tools=[tool], tool_choice=NamedTool(name)).tool_calls] == [name]


@pytest.mark.parametrize(
    ("x", "schema", "fits"),
    [
        ('"é"', {"pattern": r"^\p{L}$"}, True),
        ('"7"', {"pattern": r"^\p{L}$"}, False),
        ('"a\\n"', {"pattern": "^a$"}, False),  # Python's $ would let the line break pass
        (json.dumps("a" * 5000 + "!"), {"pattern": "^(a+)+$"}, False),
        ("19.99", {"multipleOf": 0.01}, True),  # 1998.9999999999998 as floats
        ("19.995", {"multipleOf": 0.01}, False),
        ("1" + "0" * 400, {"multipleOf": 0.01}, True),  # no float holds it
        ('{"a1": 1, "b": 2}', {"patternProperties": {"^a": {}}, "additionalProperties": False}, False),
        ('{"a1": 1}', {"patternProperties": {"^a": {}}, "additionalProperties": False}, True),
        ('{"a1": 1}', {"patternProperties": {"(a+)+$": {"type": "string"}}}, True),
        ('{"b": 2}', {"additionalProperties": {"type": "string"}}, False),
        ('{"type": "object"}', {"$ref": "https://json-schema.org/draft/2020-12/schema"}, True),
        ('{"type": "thing"}', {"$ref": "https://json-schema.org/draft/2020-12/schema"}, False),
        (json.dumps("b" * 9000), {"enum": ["a"]}, False),
    ],
)
def test_arguments_are_held_against_what_the_schema_says(x: str, schema: dict[str, object], fits: bool) -> None:
    reply = parse_reply(pay(x), tools=[pay_tool(**schema)], tool_choice="auto")
    assert (reply.format_error is None) == fits and not reply.unchecked and reply.tool_calls
    assert len(reply.format_error or "") < 600


def doubling(levels: int) -> dict[str, object]:
    """A schema that asks 2**levels times whether a value is a number."""
    parts: dict[str, object] = {f"level{i}": {"anyOf": [{"$ref": f"#/$defs/level{i + 1}"}] * 2} for i in range(levels)}
    return {"$defs": {**parts, f"level{levels}": {"type": "number"}}, "$ref": "#/$defs/level0"}


CYCLE: dict[str, object] = {}
CYCLE["properties"] = CYCLE
TANGLED: list[dict[str, object]] = [
    doubling(60),
    {"$ref": "#"},
    {"$ref": "https://example.com/player.json"},
    {"$ref": "#/$defs/missing"},
    {"$schema": []},
    {"type": "player"},
    {"properties": {"x": {"pattern": "(?=a)b"}}},
    {"properties": {"x": {"pattern": "["}}},
    {"properties": {"x": {"pattern": "(((a{100}){100}){100}){100}"}}},
    {"properties": {"x": {"multipleOf": 0}}},
    {"properties": {"x": {"enum": list(range(100_000))}}},
    {"properties": {"x": {"enum": {1, 2}}}},
    {"properties": {"x": {"unevaluatedProperties": False, "patternProperties": {"(a+)+$": {}}}}},
    functools.reduce(lambda inner, _: {"properties": {"x": inner}}, range(3000), {}),
    CYCLE,
]


@pytest.mark.parametrize("parameters", TANGLED, ids=range(len(TANGLED)))
def test_a_check_that_cannot_be_made_ends_soon_holds_nothing_against_the_reply_and_is_told_of(
    parameters: dict[str, object],
) -> None:
    tool = {"type": "function", "function": {"name": "pay", "parameters": parameters}}
    # Unchecked means ended: some took minutes, one would have taken 10**18 steps, and the test would not come back.
    reply = parse_reply(pay('"' + "a" * 40 + '!"'), tools=[tool], tool_choice="required")
    assert reply.format_error is None and reply.unchecked and len(reply.tool_calls) == 1


def test_a_call_that_does_not_fit_is_told_of_beside_one_that_cannot_be_checked() -> None:
    tangled = {"type": "function", "function": {"name": "pay", "parameters": {"$ref": "#"}}}
    illegal = GOOD.replace("Player3", "Player7")
    reply = parse_reply(pay("1") + illegal, tools=[tangled, VOTE], tool_choice="auto")
    assert reply.unchecked and reply.format_error is not None and "Player7" in reply.format_error


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


keywords = ["type", "enum", "const", "minimum", "multipleOf", "pattern", "items", "properties", "required", "anyOf"]
keywords += ["not", "$ref", "$defs", "additionalProperties", "patternProperties", "uniqueItems", "minLength", "format"]
any_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.sampled_from(["#", "(a+)+$"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(keywords) | st.text(), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(schema=st.dictionaries(st.sampled_from(keywords), any_json, max_size=4), x=any_json.map(json.dumps) | st.text())
def test_whatever_is_called_under_whatever_schema_is_a_call_or_an_error_in_words(
    schema: dict[str, object], x: str
) -> None:
    reply = parse_reply(pay(x), tools=[pay_tool(**schema)], tool_choice="required")
    assert reply.tool_calls or reply.format_error
    for call in reply.tool_calls:
        json.loads(call.arguments, parse_constant=pytest.fail)
