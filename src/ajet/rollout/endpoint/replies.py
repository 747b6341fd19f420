"""Replies in OpenAI's format: a `ChatReply` in, a JSON body or the pieces of an event stream out.

A reply is sampled and parsed whole before its first piece is sent: tool calls are read strictly, and what was not
wanted can still be an error with a status. Streaming therefore has OpenAI's form, not an earlier first word. Written as
plain JSON, so that programs by URL need not wait for the SDK to load; the tests read every form with `openai.types`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from ajet.chat.types import ChatReply
from ajet.rollout.endpoint.bodies import ReplyForm

_WORD = re.compile(r"\s*\S+\s*|\s+")
_ARGUMENTS_PIECE = 16
"""Characters of a tool call's arguments in one piece of a stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpReply:
    """An HTTP reply without HTTP."""

    status: int
    body: bytes = b""
    events: tuple[bytes, ...] | None = None
    """The pieces of an event stream, instead of a body."""

    @property
    def headers(self) -> dict[str, str]:
        """Content type; and for errors, that trying again is of no use: ajet retries whole episodes."""
        if self.events is not None:
            return {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
        headers = {"content-type": "application/json"}
        if self.status >= 400:
            headers["x-should-retry"] = "false"
        return headers


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyWriter:
    """Writes one reply. Its id is unique within the episode, so that ids made from it are, too: clients tell messages
    apart by them."""

    reply: ChatReply
    form: ReplyForm
    model_name: str

    def chat(self) -> HttpReply:
        """`/v1/chat/completions`."""
        return self._events(self._chat_deltas()) if self.form.stream else self._json(self._chat_body())

    def completion(self) -> HttpReply:
        """`/v1/completions`."""
        return self._events(self._text_pieces()) if self.form.stream else self._json(self._text_body())

    def _chat_body(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self.reply.content, "refusal": None}
        if self.reply.tool_calls:
            message |= {"content": self.reply.content or None, "tool_calls": self._tool_calls()}
        choice = {"index": 0, "message": message, "logprobs": self._chat_logprobs(), "finish_reason": self._finish}
        return {
            **self._head("chatcmpl", "chat.completion"),
            "choices": [choice | self._sampled_ids()],
            "usage": self._usage(),
            **self._prompt_ids(),
        }

    def _chat_deltas(self) -> Iterator[dict[str, Any]]:
        head = self._head("chatcmpl", "chat.completion.chunk")

        def piece(delta: dict[str, Any], finish_reason: str | None = None, **more: Any) -> dict[str, Any]:
            return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason, **more}]}

        yield piece({"role": "assistant", "content": ""}) | self._prompt_ids()
        for word in _WORD.findall(self.reply.content):
            yield piece({"content": word})
        for index, call in enumerate(self._tool_calls()):
            function = call["function"]
            yield piece({"tool_calls": [{**call, "index": index, "function": {**function, "arguments": ""}}]})
            for start in range(0, len(function["arguments"]), _ARGUMENTS_PIECE):
                part = {"arguments": function["arguments"][start : start + _ARGUMENTS_PIECE]}
                yield piece({"tool_calls": [{"index": index, "function": part}]})
        yield piece({}, self._finish, logprobs=self._chat_logprobs(), **self._sampled_ids())

    def _text_body(self) -> dict[str, Any]:
        choice = {"index": 0, "text": self.reply.content, "logprobs": self._text_logprobs()}
        choice["finish_reason"] = self.reply.finish_reason
        return {
            **self._head("cmpl", "text_completion"),
            "choices": [choice | self._sampled_ids() | self._prompt_ids()],
            "usage": self._usage(),
        }

    def _text_pieces(self) -> Iterator[dict[str, Any]]:
        head = self._head("cmpl", "text_completion")
        for word in _WORD.findall(self.reply.content):
            yield {**head, "choices": [{"index": 0, "text": word, "logprobs": None, "finish_reason": None}]}
        last = {"index": 0, "text": "", "logprobs": self._text_logprobs(), "finish_reason": self.reply.finish_reason}
        yield {**head, "choices": [last | self._sampled_ids() | self._prompt_ids()]}

    def _json(self, body: dict[str, Any]) -> HttpReply:
        return HttpReply(status=200, body=json.dumps(body).encode())

    def _events(self, pieces: Iterator[dict[str, Any]]) -> HttpReply:
        written = list(pieces)
        if self.form.include_usage:
            head = {key: value for key, value in written[-1].items() if key != "choices"}
            written = [piece | {"usage": None} for piece in written]
            written.append({**head, "choices": [], "usage": self._usage()})
        events = [f"data: {json.dumps(piece)}\n\n".encode() for piece in written]
        return HttpReply(status=200, events=(*events, b"data: [DONE]\n\n"))

    @property
    def _finish(self) -> str:
        return "tool_calls" if self.reply.tool_calls else self.reply.finish_reason

    def _head(self, prefix: str, kind: str) -> dict[str, Any]:
        return {
            "id": f"{prefix}-{self.reply.id}",
            "object": kind,
            "created": int(time.time()),
            "model": self.model_name,
        }

    def _tool_calls(self) -> list[dict[str, Any]]:
        return [
            {
                "id": f"call_{self.reply.id}_{index}",
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for index, call in enumerate(self.reply.tool_calls)
        ]

    def _usage(self) -> dict[str, int]:
        prompt, sampled = self.reply.num_prompt_tokens, self.reply.num_sampled_tokens
        return {"prompt_tokens": prompt, "completion_tokens": sampled, "total_tokens": prompt + sampled}

    def _chat_logprobs(self) -> dict[str, Any] | None:
        if not self.form.logprobs or not self.reply.sampled_ids:
            return None
        pairs = zip(self.reply.token_texts, self.reply.logprobs, strict=True)
        return {
            "content": [
                {"token": text, "logprob": logprob, "bytes": list(text.encode()), "top_logprobs": []}
                for text, logprob in pairs
            ],
            "refusal": None,
        }

    def _text_logprobs(self) -> dict[str, Any] | None:
        if not self.form.logprobs or not self.reply.sampled_ids:
            return None
        texts = self.reply.token_texts
        offsets = [end - len(text) for text, end in zip(texts, accumulate(map(len, texts)), strict=True)]
        return {
            "tokens": list(texts),
            "token_logprobs": list(self.reply.logprobs),
            "top_logprobs": None,
            "text_offset": offsets,
        }

    def _sampled_ids(self) -> dict[str, Any]:
        return {"token_ids": list(self.reply.sampled_ids)} if self.form.token_ids else {}

    def _prompt_ids(self) -> dict[str, Any]:
        return {"prompt_token_ids": list(self.reply.prompt_ids)} if self.form.token_ids else {}
