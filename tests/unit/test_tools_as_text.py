"""Templates without a place for tools: what a model is told, and that a conversation still extends itself."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from recipes.small_models.tokenizer import train_tokenizer
from transformers import PreTrainedTokenizerBase

from ajet.chat.messages import assistant_message
from ajet.chat.renderer import ChatRenderer, Conversation
from ajet.chat.tools_as_text import template_shows_tools, with_tools_as_text
from ajet.chat.types import ChatRequest

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SEE: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "see",
        "description": "Look at a player.",
        "parameters": {"type": "object", "properties": {"target": {"type": "string"}}, "required": ["target"]},
    },
}
SYSTEM = {"role": "system", "content": "You are Player4."}
ASK = {"role": "user", "content": "Whom do you see?"}


@pytest.fixture(scope="module")
def shipped() -> PreTrainedTokenizerBase:
    return train_tokenizer(["You are Player4. I see Player1 Player2"] * 9, vocab_size=320, max_context=512)


@pytest.fixture(scope="module")
def plain(shipped: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    tokenizer = copy.deepcopy(shipped)
    tokenizer.chat_template = CHATML
    return tokenizer


def prompt_of(tokenizer: PreTrainedTokenizerBase, request: ChatRequest, said: Conversation | None = None) -> str:
    renderer = ChatRenderer(tokenizer)
    return renderer.text(renderer.prompt_ids(request, said or Conversation()))


def test_a_template_is_asked_whether_it_shows_tools(
    shipped: PreTrainedTokenizerBase, plain: PreTrainedTokenizerBase
) -> None:
    assert template_shows_tools(shipped) and not template_shows_tools(plain)
    assert "<tools>" not in prompt_of(shipped, ChatRequest(messages=[SYSTEM, ASK], tools=[SEE]))


@pytest.mark.parametrize("messages", [[SYSTEM, ASK], [ASK]])
def test_tools_are_told_in_the_system_message(plain: PreTrainedTokenizerBase, messages: list[dict[str, Any]]) -> None:
    text = prompt_of(plain, ChatRequest(messages=messages, tools=[SEE]))
    system = text[: text.index("<|end|>")]
    assert system.startswith("<|im_start|>system\n") and ("You are Player4." in system) == (SYSTEM in messages)
    assert json.dumps(SEE) in system and text.count("<|im_start|>system") == 1
    without = prompt_of(plain, ChatRequest(messages=messages))
    assert "tool" not in without and ("<|im_start|>system" in without) == (SYSTEM in messages)


def test_calls_and_results_of_earlier_turns_are_shown(plain: PreTrainedTokenizerBase) -> None:
    call = {"type": "function", "function": {"name": "see", "arguments": {"target": "Player2"}}}
    said = {"role": "assistant", "content": "Well.", "tool_calls": [call, call]}
    results = [{"role": "tool", "content": "a wolf"}, {"role": "tool", "content": "no wolf"}]
    shown = with_tools_as_text([ASK, said, *results, ASK], [])
    written = '<tool_call>{"name": "see", "arguments": {"target": "Player2"}}</tool_call>'
    assert shown == [
        ASK,
        {"role": "assistant", "content": f"Well.{written}{written}"},
        {
            "role": "user",
            "content": "<tool_response>\na wolf\n</tool_response>\n<tool_response>\nno wolf\n</tool_response>",
        },
        ASK,
    ]


def test_a_request_that_extends_a_call_of_a_tool_starts_with_its_very_ids(plain: PreTrainedTokenizerBase) -> None:
    renderer, said = ChatRenderer(plain), Conversation()
    first = ChatRequest(messages=[SYSTEM, ASK], tools=[SEE], tool_choice="required")
    prompt = renderer.prompt_ids(first, said)
    # One token a byte, as no encoder would choose and a model may sample.
    text = 'I see.<tool_call>{"name":  "see", "arguments": {"target": "Player2"}}</tool_call>'
    sampled = tuple(i for char in text for i in plain.encode(char, add_special_tokens=False)) + renderer.stop_ids[:1]
    reply = renderer.finish(first, prompt, sampled, said)
    assert reply.format_error is None and reply.tool_calls[0].name == "see"
    result = {"role": "tool", "content": "a wolf"}
    again = ChatRequest(
        messages=[SYSTEM, ASK, assistant_message(reply.content, reply.tool_calls), result, ASK], tools=[SEE]
    )
    ids = renderer.prompt_ids(again, said)
    assert ids[: len(prompt) + len(sampled) - 1] == prompt + sampled[:-1]
    assert renderer.text(ids[len(prompt) + len(sampled) - 1 :]) == (
        "<|end|>\n<|im_start|>user\n<tool_response>\na wolf\n</tool_response><|end|>\n"
        "<|im_start|>user\nWhom do you see?<|end|>\n<|im_start|>assistant\n"
    )
