"""Where an assistant's turn ends, as the chat template writes it.

In: a tokenizer with its template. Out: the token behind a reply. A tokenizer's `eos_token` is often another one: it
ends documents, while `<end_of_turn>`, `<|im_end|>` or `<|eot_id|>` end turns. Left out: templates that end a turn with
ordinary text; a model that writes it one token after the other cannot be stopped by a token.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ajet.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_REPLY = "Marker2718"
_ASKED = [{"role": "user", "content": "Hello"}]
_ANSWERED = [*_ASKED, {"role": "assistant", "content": _REPLY}]


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnEnd:
    """The token that ends an assistant's turn.

    Example: ChatML's `<|im_end|>`, once behind a conversation's last reply.
    """

    token: str
    token_id: int
    num_behind_last: int
    """How often the template writes the token behind a conversation's last reply; 0 where a turn ends with the token
    that begins the next one (GLM's `<|user|>`)."""

    def end_of_reply(self, rendered: str) -> int:
        """Where the reply ends with which a rendered conversation ends; -1 where its end is missing."""
        end = len(rendered)
        for _ in range(self.num_behind_last):
            end = rendered.rfind(self.token, 0, max(end, 0))
        return end


def find_turn_end(tokenizer: PreTrainedTokenizerBase) -> TurnEnd:
    """Read it off a conversation with a marked reply.

    Raises:
        ConfigError: the tokenizer has no chat template, or one that ends an assistant's turn without a token.
    """
    behind_last = _behind_reply(tokenizer, followed=False)
    token = _first_token(tokenizer, behind_last)
    if token is None:
        token = _first_token(tokenizer, _behind_reply(tokenizer, followed=True))
    if token is None:
        raise ConfigError(
            f"The chat template of {_name(tokenizer)} ends an assistant's turn without a token of its own, so "
            "that nothing says where a reply stops: give the model a template that ends it with one, e.g. eos_token."
        )
    token_id = tokenizer.convert_tokens_to_ids(token)
    assert isinstance(token_id, int)
    return TurnEnd(token=token, token_id=token_id, num_behind_last=behind_last.count(token))


def _behind_reply(tokenizer: PreTrainedTokenizerBase, *, followed: bool) -> str:
    """What the template writes behind the reply, which is the last message or has another one behind it."""
    try:
        tokenizer.get_chat_template()
    except ValueError as error:
        raise ConfigError(
            f"{_name(tokenizer)} has no chat template: name a model that was taught to chat (often called "
            "-Instruct or -it), or put its chat_template.jinja into the model's directory."
        ) from error
    messages = [*_ANSWERED, *_ASKED] if followed else _ANSWERED
    try:
        rendered = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False))
    except Exception as error:  # the boundary to templates that others write, in a language of their own
        raise ConfigError(
            f"The chat template of {_name(tokenizer)} refuses a conversation of a user and an assistant: {error}"
        ) from error
    _, shown, behind = rendered.rpartition(_REPLY)
    if not shown:
        raise ConfigError(f"The chat template of {_name(tokenizer)} does not show what an assistant has said.")
    return behind


def _first_token(tokenizer: PreTrainedTokenizerBase, text: str) -> str | None:
    """The token that the text begins with, whitespace aside; of those that no ordinary text is made of."""
    tokens = {token.content for token in tokenizer.added_tokens_decoder.values()}
    if tokenizer.eos_token is not None:
        tokens.add(str(tokenizer.eos_token))
    longest_first = sorted(filter(str.strip, tokens), key=len, reverse=True)
    found = re.match("|".join(map(re.escape, longest_first)), text.lstrip()) if longest_first else None
    return None if found is None else found[0]


def _name(tokenizer: PreTrainedTokenizerBase) -> str:
    return tokenizer.name_or_path or "the tokenizer"
