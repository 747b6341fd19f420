"""A chat request -> the grammar of replies that `ajet.chat.tool_calls` can read: text, and calls of the tools on offer.

Out comes xgrammar's structural tag, as text: what an engine samples under, and the trainer scores under. A call is
spelled as the templates spell it, `<tool_call>{"name": "…", "arguments": {…}}</tool_call>`, on a line of its own or
not; its arguments are held to the tool's JSON schema, their keys in the schema's order. Tags stand nowhere else,
neither in text nor in a call's strings. Left out: what no grammar says of JSON (a key given twice or a number too large
where the schema leaves values open), lengths of strings, which xgrammar drops where tags are kept out, and schemas that
it cannot follow, for which any object will do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from ajet.chat.arguments import LONGEST_SCHEMA
from ajet.chat.tool_calls import CLOSE, OPEN
from ajet.chat.types import ChatRequest, NamedTool

NOT_IN_STRINGS = [CLOSE, "\\ud", "\\uD"]
"""The tag that would end the call, and escapes of half a surrogate pair, which is not a character."""
ANY_OBJECT: Mapping[str, Any] = {"type": "object"}
_LINE_BREAK = {"type": "regex", "pattern": "\\n?"}
_TEXT = {"type": "any_text", "excludes": [OPEN, CLOSE]}


def reply_grammar(request: ChatRequest) -> str:
    """The grammar of one reply; empty for a raw prompt, whose continuation nobody parses.

    With `tool_choice` auto a call may be made, with required or a named tool there is one at least; text may stand
    before, between and behind calls. Without tools, and with none, it is text without tags.
    """
    if request.prompt is not None:
        return ""
    parameters = {str(tool["function"]["name"]): tool["function"].get("parameters") or {} for tool in request.tools}
    if isinstance(request.tool_choice, NamedTool):
        parameters = {name: schema for name, schema in parameters.items() if name == request.tool_choice.name}
    if request.tool_choice == "none":
        parameters = {}
    return _grammar(
        json.dumps(parameters, ensure_ascii=False),
        is_required=request.tool_choice not in ("auto", "none"),
        parallel=request.parallel_tool_calls,
    )


@lru_cache(maxsize=256)
def _grammar(parameters: str, *, is_required: bool, parallel: bool) -> str:
    calls = [_call(name, _followed(schema)) for name, schema in json.loads(parameters).items()]
    return _tag(_reply(calls, is_required=is_required, parallel=parallel) if calls else _TEXT)


def _reply(calls: Sequence[Any], *, is_required: bool, parallel: bool) -> dict[str, Any]:
    call = {"type": "or", "elements": list(calls)}
    text_and_calls = {"type": "dispatch", "rules": [[OPEN, call]], "loop": True, "excludes": [CLOSE]}
    if parallel and not is_required:
        return text_and_calls
    text_and_call = [_TEXT, {"type": "const_string", "value": OPEN}, call]
    if is_required:
        return _sequence(*text_and_call, text_and_calls if parallel else _TEXT)
    return {"type": "or", "elements": [_TEXT, _sequence(*text_and_call, _TEXT)]}


def _call(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """What stands behind the opening tag."""
    arguments = {
        "type": "json_schema",
        "json_schema": schema,
        "max_whitespace_cnt": 1,  # a small model may write nothing else until it is cut off
        "excludes": NOT_IN_STRINGS,
    }
    opening = f'{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": '
    return _sequence(
        _LINE_BREAK,
        {"type": "const_string", "value": opening},
        arguments,  # by itself, since references in it begin at its root
        {"type": "const_string", "value": "}"},
        _LINE_BREAK,
        {"type": "const_string", "value": CLOSE},
    )


def _followed(parameters: Any) -> Mapping[str, Any]:
    """The schema of an object, as far as xgrammar can follow it."""
    from xgrammar import Grammar  # not above: it loads torch

    if not isinstance(parameters, dict) or parameters.get("type", "object") != "object":
        return ANY_OBJECT
    schema = {"type": "object", **parameters}
    if len(json.dumps(schema)) > LONGEST_SCHEMA:
        return ANY_OBJECT
    try:
        Grammar.from_structural_tag(_tag(_call("tool", schema)))
    except RuntimeError:  # all of xgrammar's errors are; what is wrong with the schema, the arguments' check will say
        return ANY_OBJECT
    return schema


def _sequence(*elements: Any) -> dict[str, Any]:
    return {"type": "sequence", "elements": list(elements)}


def _tag(format_: Mapping[str, Any]) -> str:
    return json.dumps({"type": "structural_tag", "format": format_}, ensure_ascii=False)
