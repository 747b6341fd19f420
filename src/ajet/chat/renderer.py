"""Chat requests -> prompt ids, sampled ids -> replies; cumulative by recorded prefix.

A request whose messages extend an earlier request of the same agent and its reply continues the ids of that
call: what was sampled stays what it was, and only the new suffix is tokenized. A request that rewrites
history, or a template that renders old turns differently, is rendered afresh; both are exact, since every call
records the prompt that it was sampled from. A reply ends at the token with which the template ends a turn, or at any
other that the model ends with; in what follows it, the template's stands. Only the template writes special tokens:
where a message spells one, a zero-width space behind its first character makes it text, so no message can forge a turn.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ajet.chat.lengths import check_length
from ajet.chat.messages import assistant_message, plain_messages
from ajet.chat.tool_calls import ParsedReply, parse_reply
from ajet.chat.tools_as_text import template_shows_tools, with_tools_as_text
from ajet.chat.turn_end import find_turn_end
from ajet.chat.types import ChatRequest
from ajet.errors import WorkflowError
from ajet.records import Completion

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


ZERO_WIDTH_SPACE = "\u200b"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedTurn:
    """One finished call of an agent: what a later request may extend."""

    messages: list[dict[str, Any]]
    """Plain messages, the reply last."""
    tools: list[Any]
    ids: tuple[int, ...]
    """Prompt and sampled ids, without the one that ended the reply: the template ends a turn in its own way, also one
    that was cut off or ended with another token."""


@dataclass(slots=True)
class Conversation:
    """What one agent has said in one episode, whichever of its clients was asked."""

    agent_number: int = 0
    """Of this agent among those of the episode."""
    turns: list[RecordedTurn] = field(default_factory=list)
    """The finished calls that a later request may extend."""
    num_replies: int = 0

    def next_reply_id(self) -> str:
        """An id that no other reply of the episode has."""
        self.num_replies += 1
        return f"{self.agent_number}_{self.num_replies}"


class ChatRenderer:
    """A tokenizer and its chat template, with the tool-call form `ajet.chat.tool_calls` reads."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, eos_ids: Iterable[int] = ()) -> None:
        """`eos_ids`: what the model's own configuration stops at, besides the template's token and `eos_token`.

        Raises:
            ConfigError: no chat template, or one that ends an assistant's turn without a token.
        """
        self._tokenizer = tokenizer
        self._turn_end = find_turn_end(tokenizer)
        self._shows_tools = template_shows_tools(tokenizer)
        ids = [self.turn_end_id, tokenizer.eos_token_id, *eos_ids]
        known = [i for i in ids if i is not None and 0 <= i < len(tokenizer)]
        self.stop_ids: tuple[int, ...] = tuple(dict.fromkeys(known))
        """Ids that end a reply, the template's own first."""
        added = tokenizer.added_tokens_decoder
        special = {token.content for i, token in added.items() if token.special or i in self.stop_ids}
        special.add(self._turn_end.token)
        self._special = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))))

    @property
    def turn_end_id(self) -> int:
        """The id with which the template ends an assistant's turn."""
        return self._turn_end.token_id

    def prompt_ids(
        self, request: ChatRequest, conversation: Conversation, *, max_context: int | None = None
    ) -> tuple[int, ...]:
        """The ids to sample from: recorded ids where the request extends them, plus the new suffix.

        Args:
            request: what the program asked.
            conversation: of its agent.
            max_context: the engine's; text that cannot fit is then refused before it is tokenized.

        Raises:
            WorkflowError: messages that the chat template refuses, or a raw prompt without ids of the vocabulary.
            ContextOverflowError: far more text than the context holds.
        """
        if request.prompt is not None:
            return self._raw_ids(request.prompt, max_context)
        messages = plain_messages(request.messages)
        tools = list(request.tools)
        text = self._text(messages, tools, add_generation_prompt=True)
        # The longest first: what it holds of recorded ids, a shorter one would have to tokenize again.
        for turn in sorted(reversed(conversation.turns), key=lambda turn: -len(turn.messages)):
            if messages[: len(turn.messages)] != turn.messages:
                continue
            suffix = self._suffix(text, turn)
            if suffix is not None:
                return turn.ids + self._encode(suffix, max_context)
        return self._encode(text, max_context)

    def finish(
        self,
        request: ChatRequest,
        prompt_ids: tuple[int, ...],
        sampled_ids: tuple[int, ...],
        conversation: Conversation,
    ) -> ParsedReply:
        """Parse a completion strictly and remember the call as a turn that later requests may extend."""
        text = before_stop(self.reply_text(sampled_ids), request.stop)
        if request.prompt is not None:
            return ParsedReply(content=text, tool_calls=(), format_error=None)
        reply = parse_reply(
            text, tools=request.tools, tool_choice=request.tool_choice, parallel=request.parallel_tool_calls
        )
        if reply.format_error is not None and not reply.tool_calls and reply.content != text.strip():
            # The agent is shown what was wrong. Continuing from the sampled ids would hide that note from the policy,
            # so the next request starts from the turn before.
            return reply
        messages = plain_messages(request.messages)
        messages.append(assistant_message(reply.content, reply.tool_calls))
        ids = prompt_ids + self._without_stop(sampled_ids)
        conversation.turns.append(RecordedTurn(messages=messages, tools=list(request.tools), ids=ids))
        return reply

    def reply_text(self, sampled_ids: Sequence[int]) -> str:
        """The reply as text, without what ended it; any other special token is shown as it is."""
        return str(self._tokenizer.decode(list(self._without_stop(sampled_ids)), skip_special_tokens=False))

    def until_stop(self, completion: Completion, stop: Sequence[str]) -> Completion:
        """The completion up to the id that completes the first stop text; ids behind it never happened.

        Ids are drawn one after the other, so what was sampled up to there is what an engine that stops there samples.
        """

        def complete(num_ids: int) -> bool:
            text = self.reply_text(completion.token_ids[:num_ids])
            return any(end in text for end in stop)

        if not stop or not complete(len(completion.token_ids)):
            return completion
        num_ids = bisect_left(range(len(completion.token_ids)), True, key=complete)
        return replace(
            completion,
            token_ids=completion.token_ids[:num_ids],
            logprobs=completion.logprobs[:num_ids],
            finish_reason="stop",
        )

    def token_texts(self, sampled_ids: Sequence[int]) -> tuple[str, ...]:
        """Each id as text; bytes that are not a character of their own show as the replacement character."""
        return tuple(str(self._tokenizer.decode([token_id], skip_special_tokens=False)) for token_id in sampled_ids)

    def text(self, ids: Sequence[int]) -> str:
        """Any ids as text, special tokens included."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def _raw_ids(self, prompt: str | tuple[int, ...], max_context: int | None) -> tuple[int, ...]:
        ids = self._encode(prompt, max_context) if isinstance(prompt, str) else prompt
        size = len(self._tokenizer)
        if not ids or not 0 <= min(ids) <= max(ids) < size:
            raise WorkflowError(f"A prompt needs at least one token id, each from 0 to {size - 1}.")
        return ids

    def _suffix(self, text: str, turn: RecordedTurn) -> str | None:
        """What `text` adds behind the turn's reply, its end included; None where the template rewrote the turn.

        `text` was rendered with the new request's tools, the turn with its own: templates that list tools up
        front differ here and start afresh, templates that list them last keep going.
        """
        rendered = self._text(turn.messages, turn.tools, add_generation_prompt=False)
        end = self._turn_end.end_of_reply(rendered)
        return text[end:] if end >= 0 and text.startswith(rendered[:end]) else None

    def _without_stop(self, ids: Sequence[int]) -> tuple[int, ...]:
        end = len(ids)
        while end and ids[end - 1] in self.stop_ids:
            end -= 1
        return tuple(ids[:end])

    def _text(self, messages: list[dict[str, Any]], tools: list[Any], *, add_generation_prompt: bool) -> str:
        messages, tools = self._as_text(messages), self._as_text(tools)
        if not self._shows_tools:
            messages, tools = with_tools_as_text(messages, tools), []
        try:
            rendered = self._tokenizer.apply_chat_template(
                messages,
                tools=tools or None,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
            )
        except Exception as error:  # the boundary to templates that others write, in a language of their own
            raise WorkflowError(f"The model's chat template refuses the messages: {error}") from error
        return str(rendered)

    def _as_text(self, value: Any) -> Any:
        """The value with every special token in it spelled so that it stays text."""
        if isinstance(value, str):
            return self._special.sub(lambda token: f"{token[0][0]}{ZERO_WIDTH_SPACE}{token[0][1:]}", value)
        if isinstance(value, Mapping):
            return {self._as_text(key): self._as_text(part) for key, part in value.items()}
        return [self._as_text(part) for part in value] if isinstance(value, list | tuple) else value

    def _encode(self, text: str, max_context: int | None) -> tuple[int, ...]:
        if max_context is not None:
            check_length(text, max_context, lambda piece: len(self._ids(piece)))
        return tuple(self._ids(text))

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids


def before_stop(text: str, stop: Sequence[str]) -> str:
    """The text up to the first stop text in it.

    Example: `before_stop("a b c", ["c", "b"])` is "a ".
    """
    return text[: min((text.find(end) for end in stop if end in text), default=len(text))]
