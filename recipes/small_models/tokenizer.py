"""The small model's tokenizer and chat template.

In: texts of transcripts. Out: a byte-level BPE tokenizer that any text survives, with a template for roles, tools and
tool calls. Two choices serve a model of few parameters: a name with a number (`Player5`) is one token and the same
one in prose and in JSON, so that copying it is copying; and the template lists the tools after the messages, just
before the reply, so that a request with other tools still extends the last one token by token.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

END = "<|end|>"
PAD = "<|pad|>"
ROLE_TOKENS = ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|tools|>")
TEXT_TOKENS = ("<tool_call>", "</tool_call>")
"""Kept when a reply is decoded: the parser reads them."""

# A word with a number stands alone; other words take the spaces around them, so names never carry one.
_SPLIT = r"[A-Za-z]+\d+| ?[A-Za-z]+(?![A-Za-z\d]) ?|\d| ?[^\sA-Za-z\d]+ ?|\s+"

CHAT_TEMPLATE = """
{%- for message in messages -%}
<|{{ message.role }}|>{{ message.content }}
{%- for call in message.tool_calls or [] -%}
<tool_call>{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}</tool_call>
{%- endfor -%}
<|end|>
{%- endfor -%}
{%- if add_generation_prompt -%}
{%- if tools -%}
<|tools|>
{%- for tool in tools -%}
{{ tool.function.name }}(
{%- for name, schema in (tool.function.parameters.properties or {}).items() -%}
{{ name }}: {{ (schema.enum or [schema.const or schema.type or "any"]) | join(", ") }}{{ "" if loop.last else "; " }}
{%- endfor -%}
)
{%- endfor -%}
<|end|>
{%- endif -%}
<|assistant|>
{%- endif -%}
"""


def train_tokenizer(
    texts: Iterable[str], *, vocab_size: int, max_context: int, phrases: Sequence[str] = ()
) -> PreTrainedTokenizerFast:
    """Learn merges from `texts` (any order gives the same vocabulary) and attach the chat template.

    `phrases` become one token each: what an agent framework always writes whole need not be spelled.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, END, *ROLE_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_between_markers(texts, phrases), trainer)
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in (*TEXT_TOKENS, *phrases)])
    fast: PreTrainedTokenizerFast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, model_max_length=max_context
    )
    fast.add_special_tokens({"additional_special_tokens": list(ROLE_TOKENS)})
    fast.chat_template = CHAT_TEMPLATE.strip()
    return fast


def _between_markers(texts: Iterable[str], phrases: Sequence[str]) -> Iterator[str]:
    """The texts without the tokens that are added whole, so that no merge reaches across one."""
    markers = re.compile("|".join(re.escape(token) for token in (PAD, END, *ROLE_TOKENS, *TEXT_TOKENS, *phrases)))
    for text in texts:
        yield from filter(None, markers.split(text))
