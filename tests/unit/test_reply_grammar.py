"""What is sampled under a reply's grammar can be parsed, whatever the model would have said."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from ajet.chat.reply_grammar import reply_grammar
from ajet.chat.tool_calls import CLOSE, OPEN, parse_reply
from ajet.chat.types import ChatRequest, NamedTool, ToolChoice
from ajet.config.model import resolve_model_path
from ajet.engine.grammars import TokenGrammars
from ajet.errors import EngineError

END = 1
"""`<|end|>` of the small model, whose tokenizer has both tags as tokens of their own."""
FIRST_TAG = 512
"""From here on ids are tags, and beginnings and ends of calls."""


def tool(name: str, **parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


VOTE = tool(
    "vote",
    type="object",
    properties={"target": {"enum": ["Player1", "nobody"]}, "why": {"type": "string"}},
    required=["target"],
)
COUNT = tool(
    "count",
    properties={
        "number": {"type": "integer", "minimum": 1, "maximum": 6},
        "flags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
        "of": {"$ref": "#/$defs/kind"},
    },
    required=["number", "flags", "of"],
    **{"$defs": {"kind": {"enum": ["words", None]}}},
)
TOOLS = [VOTE, COUNT]


@cache
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(resolve_model_path("builtin:tiny"))


@cache
def grammars() -> TokenGrammars:
    return TokenGrammars(tokenizer(), vocab_size=len(tokenizer()))


def request(tools: Sequence[Any] = TOOLS, choice: ToolChoice = "auto", *, parallel: bool = True) -> ChatRequest:
    return ChatRequest(messages=[], tools=tools, tool_choice=choice, parallel_tool_calls=parallel)


def said_at_random(grammar: str, seed: int, *, most: int = 250) -> tuple[str, bool]:
    """A reply of ids that are drawn evenly, tags and the end more often; and whether it ended by itself."""
    rng, reply, ids = random.Random(seed), grammars().reply(grammar, [END]), list[int]()
    while len(ids) < most and END not in ids:
        bits = np.unpackbits(reply.allowed().view(np.uint8), bitorder="little")[: grammars().vocab_size]
        allowed = np.flatnonzero(bits)
        tags = allowed[(allowed == END) | (allowed >= FIRST_TAG)]
        ids.append(int(rng.choice(tags if len(tags) and rng.random() < 0.4 else allowed)))
        reply.accept(ids[-1])
    return str(tokenizer().decode([i for i in ids if i != END], skip_special_tokens=False)), ids[-1] == END


def allows(grammar: str, text: str) -> bool:
    """Whether the text is a whole reply of the grammar."""
    try:
        grammars().masks(grammar, [END], [*tokenizer().encode(text, add_special_tokens=False), END])
    except EngineError:
        return False
    return True


@pytest.mark.parametrize("parallel", [True, False])
@pytest.mark.parametrize("choice", ["auto", "none", "required", NamedTool("count")])
def test_whatever_is_drawn_under_the_grammar_can_be_parsed_and_fits_the_tools(
    choice: ToolChoice, parallel: bool
) -> None:
    asked = request(choice=choice, parallel=parallel)
    num_ended = num_calls = 0
    for seed in range(40):
        text, ended = said_at_random(reply_grammar(asked), seed)
        if ended:
            reply = parse_reply(text, tools=TOOLS, tool_choice=choice, parallel=parallel)
            assert reply.format_error is None, text
            num_ended, num_calls = num_ended + 1, num_calls + len(reply.tool_calls)
    assert num_ended >= 10
    assert (num_calls > 0) == (choice != "none")


def test_without_tools_a_reply_is_text_without_tags() -> None:
    free = reply_grammar(request([]))
    assert allows(free, "I say Player1.")
    assert not allows(free, OPEN) and not allows(free, CLOSE)


def test_a_call_is_spelled_as_templates_spell_it_on_a_line_of_its_own_or_not() -> None:
    grammar = reply_grammar(request())
    call = '{"name": "vote", "arguments": {"target": "nobody"}}'
    assert allows(grammar, f"I know. {OPEN}{call}{CLOSE}")
    assert allows(grammar, f"{OPEN}\n{call}\n{CLOSE} and {OPEN}{call}{CLOSE}")
    assert not allows(grammar, f"{OPEN}{call}")
    assert not allows(grammar, OPEN + call.replace("nobody", "everybody") + CLOSE)
    assert not allows(grammar, OPEN + call.replace("vote", "fly") + CLOSE)


def test_the_closing_tag_stands_in_no_string() -> None:
    begun = '<tool_call>{"name": "vote", "arguments": {"target": "nobody", "why": "'
    reply = grammars().reply(reply_grammar(request()), [END])
    for token_id in tokenizer().encode(begun, add_special_tokens=False):
        reply.accept(token_id)
    with pytest.raises(EngineError, match="tokenizer"):
        reply.accept(tokenizer().convert_tokens_to_ids(CLOSE))


@pytest.mark.parametrize("parameters", [{"type": "string"}, {"$ref": "#/nowhere"}, {"properties": {"a": {"type": 7}}}])
def test_of_a_schema_that_cannot_be_followed_any_object_will_do(parameters: dict[str, Any]) -> None:
    grammar = reply_grammar(request([tool("odd", **parameters)], "required"))
    assert allows(grammar, f'{OPEN}{{"name": "odd", "arguments": {{"b": [1]}}}}{CLOSE}')
    assert not allows(grammar, f'{OPEN}{{"name": "odd", "arguments": 1}}{CLOSE}')


def test_a_raw_prompt_has_no_grammar() -> None:
    assert reply_grammar(ChatRequest(messages=[], prompt="Once")) == ""


def test_a_mask_is_of_the_ids_that_may_come_next() -> None:
    ids = tokenizer().encode(f'{OPEN}{{"name": "vote"', add_special_tokens=False)
    masks = grammars().masks(reply_grammar(request()), [END], ids)
    assert masks.shape == (len(ids), -(-len(tokenizer()) // 32))
    bits = np.unpackbits(masks.view(np.uint8), axis=1, bitorder="little")
    assert bits[0, END] and bits[0, ids[0]], "a reply may be empty, or begin with a call"
    assert not bits[1, END], "a call that was begun is ended"
    assert all(bits[t, token_id] for t, token_id in enumerate(ids))


def test_one_set_of_tools_gives_one_text_however_its_schema_is_kept() -> None:
    assert reply_grammar(request()) is reply_grammar(request(json.loads(json.dumps(TOOLS))))
