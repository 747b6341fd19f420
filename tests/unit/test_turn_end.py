"""Where a turn ends: read off the chat template, in the styles of known models, whatever their eos token."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from recipes.small_models.tokenizer import train_tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ajet.assemble import build_trainer
from ajet.assemble.players import make_renderer
from ajet.chat.renderer import ChatRenderer, Conversation
from ajet.chat.types import ChatRequest
from ajet.config.compose import compose
from ajet.config.model import resolve_model_path
from ajet.errors import ConfigError

ASK, MORE = {"role": "user", "content": "hi"}, {"role": "user", "content": "more"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """A template as a known model has it, and what its tokenizer and generation stop at."""

    template: str
    tokens: tuple[str, ...]
    eos: str
    turn_end: str
    also: tuple[str, ...] = ()
    """Further entries of `generation_config.eos_token_id`."""


STYLES = {
    "gemma": Style(
        template="<bos>{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
        "{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
        tokens=("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        eos="<eos>",
        turn_end="<end_of_turn>",
        also=("<eos>", "<end_of_turn>"),
    ),
    "phi3": Style(
        template="{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}",
        tokens=("<|endoftext|>", "<|end|>", "<|user|>", "<|assistant|>"),
        eos="<|endoftext|>",
        turn_end="<|end|>",
        also=("<|endoftext|>", "<|assistant|>", "<|end|>"),
    ),
    "llama3": Style(
        template="<|begin_of_text|>{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
        "{{ m.content | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
        tokens=("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        eos="<|end_of_text|>",
        turn_end="<|eot_id|>",
        also=("<|end_of_text|>", "<|eot_id|>"),
    ),
    "chatml": Style(
        template="{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        tokens=("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
        eos="<|endoftext|>",
        turn_end="<|im_end|>",
    ),
    "mistral": Style(
        template="{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
        "{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}",
        tokens=("<s>", "</s>"),
        eos="</s>",
        turn_end="</s>",
    ),
    "llama2": Style(
        template="{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
        "{% else %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}",
        tokens=("<s>", "</s>"),
        eos="</s>",
        turn_end="</s>",
    ),
    "glm": Style(  # a turn ends where the next one begins
        template="[gMASK]{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
        tokens=("[gMASK]", "<|user|>", "<|assistant|>", "<|observation|>", "<|endoftext|>"),
        eos="<|endoftext|>",
        turn_end="<|user|>",
        also=("<|endoftext|>", "<|user|>", "<|observation|>"),
    ),
    "gpt_oss": Style(  # the last reply ends in another token than those before it
        template="{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}"
        "{% if loop.last and m.role == 'assistant' %}<|return|>{% else %}<|end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant<|message|>{% endif %}",
        tokens=("<|start|>", "<|message|>", "<|end|>", "<|return|>", "<|call|>"),
        eos="<|return|>",
        turn_end="<|return|>",
        also=("<|return|>", "<|call|>"),
    ),
    "end_twice": Style(
        template="{% for m in messages %}<|{{ m.role }}|>{{ m.content }}</s>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% else %}</s>{% endif %}",
        tokens=("<|user|>", "<|assistant|>", "</s>"),
        eos="</s>",
        turn_end="</s>",
    ),
}


def tokenizer_of(style: Style) -> Any:
    made: Any = train_tokenizer(["yes indeed", "more [INST] user model assistant"], vocab_size=300, max_context=512)
    made.add_special_tokens({"eos_token": style.eos, "additional_special_tokens": list(style.tokens)})
    made.chat_template = style.template
    return made


def renderer_of(style: Style, tokenizer: Any) -> ChatRenderer:
    return ChatRenderer(tokenizer, eos_ids=tokenizer.convert_tokens_to_ids(list(style.also)))


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_a_reply_stops_where_the_template_ends_a_turn_and_at_every_end_that_the_model_has(style: Style) -> None:
    tokenizer = tokenizer_of(style)
    renderer = renderer_of(style, tokenizer)
    assert tokenizer.convert_ids_to_tokens(renderer.turn_end_id) == style.turn_end
    stops = tokenizer.convert_ids_to_tokens(list(renderer.stop_ids))
    assert stops[0] == style.turn_end and set(stops) == {style.turn_end, style.eos, *style.also}
    assert len(stops) == len(set(stops))


@pytest.mark.parametrize("ended_by", ["turn end", "eos", "budget"])
@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_however_a_reply_ended_its_text_is_clean_and_what_follows_is_the_templates_behind_the_sampled_ids(
    style: Style, ended_by: str
) -> None:
    tokenizer = tokenizer_of(style)
    renderer, conversation = renderer_of(style, tokenizer), Conversation()
    first = ChatRequest(messages=[ASK])
    prompt = renderer.prompt_ids(first, conversation)
    spelled = tuple(i for char in "yes" for i in tokenizer.encode(char, add_special_tokens=False))
    end = {"turn end": [style.turn_end], "eos": [style.eos], "budget": []}[ended_by]
    sampled = (*spelled, *tokenizer.convert_tokens_to_ids(end))
    assert renderer.reply_text(sampled) == renderer.finish(first, prompt, sampled, conversation).content == "yes"
    messages = [ASK, {"role": "assistant", "content": "yes"}, MORE]
    following = renderer.prompt_ids(ChatRequest(messages=messages), conversation)
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    if STYLES["llama2"] is style:  # its space before and behind a reply is not asked of the model
        rendered = rendered.replace("] yes </s>", "]yes</s>")
    assert tokenizer.decode(list(following)) == rendered
    assert following[: len(prompt + spelled)] == prompt + spelled
    if ended_by == "turn end" and STYLES["gpt_oss"] is not style:
        assert following[: len(prompt + sampled)] == prompt + sampled


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_no_message_can_spell_what_ends_a_reply(style: Style) -> None:
    tokenizer = tokenizer_of(style)
    renderer = renderer_of(style, tokenizer)

    def num_ends(content: str) -> int:
        ids = renderer.prompt_ids(ChatRequest(messages=[{"role": "user", "content": content}]), Conversation())
        return sum(token_id in renderer.stop_ids for token_id in ids)

    ends = "".join(tokenizer.convert_ids_to_tokens(list(renderer.stop_ids)))
    assert num_ends(f"hi{ends}") == num_ends("hi")


def test_the_turn_end_is_found_where_the_tokenizer_calls_another_token_its_end() -> None:
    """A shipped tokenizer with an end of documents."""
    tokenizer: Any = AutoTokenizer.from_pretrained(resolve_model_path("builtin:tiny_tasks"))
    turn_end = tokenizer.eos_token
    tokenizer.add_special_tokens({"eos_token": "<|endoftext|>"})
    renderer, conversation = ChatRenderer(tokenizer), Conversation()
    assert tokenizer.convert_ids_to_tokens(list(renderer.stop_ids)) == [turn_end, "<|endoftext|>"]
    request = ChatRequest(messages=[ASK])
    prompt = renderer.prompt_ids(request, conversation)
    sampled = (*tokenizer.encode(f"yes{turn_end}", add_special_tokens=False), *renderer.stop_ids)
    assert renderer.finish(request, prompt, sampled, conversation).content == "yes"


def template(text: str) -> PreTrainedTokenizerBase:
    tokenizer = train_tokenizer(["hello"], vocab_size=280, max_context=64)
    tokenizer.chat_template = text
    return tokenizer


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{% for m in messages %}### {{ m.role }}: {{ m.content }}\n{% endfor %}", "without a token of its own"),
        ("{% for m in messages %}{{ m.role }}: {{ m.content }} END<|end|>{% endfor %}", "without a token of its own"),
        ("{% for m in messages if m.role == 'user' %}{{ m.content }}<|end|>{% endfor %}", "does not show"),
        ("{{ raise_exception('no') }}", "refuses a conversation"),
        (
            "{% for m in messages %}{% for k, v in m.content | items %}{{ k }}{% endfor %}{% endfor %}",
            "refuses a conversation",
        ),
    ],
)
def test_a_template_that_cannot_be_worked_with_is_refused_in_a_sentence(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        ChatRenderer(template(text))


@pytest.mark.parametrize("named", [None, {}, {"tool_use": "{{ messages }}"}])
def test_a_model_without_a_chat_template_is_refused(named: Any) -> None:
    tokenizer = template("")
    tokenizer.chat_template = named
    with pytest.raises(ConfigError, match="has no chat template"):
        ChatRenderer(tokenizer)


@pytest.mark.parametrize(
    ("generation", "config", "expected"),
    [
        ({"eos_token_id": [3, 5]}, {"eos_token_id": 4}, {1, 3, 5}),
        ({"eos_token_id": 3}, {}, {1, 3}),
        ({}, {"eos_token_id": 4}, {1, 4}),
        (None, {"eos_token_id": [4, 6]}, {1, 4, 6}),
        (None, {"eos_token_id": 100_000}, {1}),
    ],
)
def test_what_a_model_stops_at_is_read_from_its_directory(
    tmp_path: Path, generation: dict[str, Any] | None, config: dict[str, Any], expected: set[int]
) -> None:
    """The template's own end is id 1."""
    tokenizer = train_tokenizer(["hello"], vocab_size=280, max_context=64)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3", "eos_token_id": None, **config}))
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    renderer = make_renderer(str(tmp_path))
    assert renderer.turn_end_id == 1 and set(renderer.stop_ids) == expected


def test_a_damaged_generation_config_and_a_model_that_is_not_there_are_a_sentence(tmp_path: Path) -> None:
    train_tokenizer(["hello"], vocab_size=280, max_context=64).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3"}))
    (tmp_path / "generation_config.json").write_text('{"eos_tok')
    for path in (str(tmp_path), "nobody/nothing"):
        with pytest.raises(ConfigError, match="cannot be loaded"):
            make_renderer(path)


SMALL_SHAPE = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "vocab_size": 300}
"""One that any machine has the memory for."""


def test_a_model_without_a_chat_template_is_refused_before_anything_loads(tmp_path: Path) -> None:
    """There is not even a weight that could be loaded."""
    tokenizer = template("")
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text(json.dumps({"model_type": "qwen3", **SMALL_SHAPE}))
    settings = ["workflow=signals", f"model.path={tmp_path / 'model'}", "engine=transformers", "logger=quiet"]
    with pytest.raises(ConfigError, match="has no chat template"):
        build_trainer(compose([*settings, "eval=none"], run_dir=tmp_path / "run"))
