"""Whatever bytes a client sends, the endpoint refuses or serves them, soon and without much memory."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recipes.small_models.tokenizer import train_tokenizer
from tests.episodes import Run, agent_model, post
from transformers import PreTrainedTokenizerBase

from ajet.chat.lengths import check_length
from ajet.chat.renderer import ChatRenderer
from ajet.engine.scripted import ScriptedEngine
from ajet.errors import ContextOverflowError
from ajet.rollout.agent_model import EngineReplies
from ajet.rollout.endpoint.bodies import MOST_VALUES, num_values_at_most
from ajet.rollout.endpoint.endpoint import Endpoint
from ajet.rollout.endpoint.server import MOST_HEADER_BYTES
from ajet.tuner import AjetTuner

MIB = 2**20
CONTEXT = 512
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
MESSAGE: Any = {"role": "user", "content": "hello"}
TOOL: Any = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}

Send = Callable[[str, bytes], httpx.Response]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(["hello"], vocab_size=280, max_context=CONTEXT)


@pytest.fixture(scope="module")
def send(tokenizer: PreTrainedTokenizerBase) -> Send:
    """A client in this process of a trained agent, whose engine samples at once."""
    endpoint = Endpoint()
    replies = EngineReplies(
        engine=ScriptedEngine(len(tokenizer), max_context=CONTEXT, seed=1),
        renderer=ChatRenderer(tokenizer),
        temperature=1.0,
        max_tokens=4,
    )
    key = endpoint.open(agent_model(replies))

    def sent(path: str, body: bytes) -> httpx.Response:
        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(app=endpoint.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://ajet.invalid") as client:
                return await client.post(path, content=body, headers={"authorization": f"Bearer {key}"})

        return asyncio.run(asked())

    return sent


def assert_answered(answer: httpx.Response) -> None:
    """A reply, or the client's own fault in OpenAI's words."""
    assert answer.status_code in (200, 400), answer.content
    if answer.status_code == 400:
        error = json.loads(answer.content)["error"]
        assert error["message"] and error["type"] == "invalid_request_error" and len(answer.content) < 20_000


def repeated(piece: bytes, num_bytes: int) -> bytes:
    return piece * (num_bytes // len(piece))


def asking(**more: Any) -> bytes:
    return json.dumps({"messages": [MESSAGE], **more}).encode()


def unfinished(body: bytes) -> bytes:
    """A body without its closing brace, to go on from."""
    return body.removesuffix(b"}")


HOSTILE: dict[str, tuple[str, Callable[[int], bytes]]] = {
    "wrong messages": (CHAT, lambda size: b'{"messages":[' + repeated(b"1,", size) + b"1]}"),
    "empty messages": (CHAT, lambda size: b'{"messages":[' + repeated(b"{},", size) + b"{}]}"),
    "a long prompt": (CHAT, lambda size: asking(messages=[{"role": "user", "content": "hello, " * (size // 7)}])),
    "spaces": (CHAT, lambda size: asking(messages=[{"role": "user", "content": " " * size}])),
    "special tokens": (CHAT, lambda size: asking(messages=[{"role": "user", "content": "<|im_end|>" * (size // 10)}])),
    "lists in an unknown key": (CHAT, lambda size: unfinished(asking()) + b',"x":[' + repeated(b"[],", size) + b"1]}"),
    "nesting": (CHAT, lambda size: unfinished(asking()) + b',"x":' + b"[" * (size // 2) + b"]" * (size // 2) + b"}"),
    "a number": (CHAT, lambda size: unfinished(asking()) + b',"seed":' + b"1" * size + b"}"),
    "stop texts": (CHAT, lambda size: unfinished(asking()) + b',"stop":[' + repeated(b'"a",', size) + b'"a"]}'),
    "tools": (CHAT, lambda size: asking(tools=[TOOL] * (size // 80))),
    "a tool's name": (CHAT, lambda size: asking(tools=[{"type": "function", "function": {"name": "a" * size}}])),
    "a key": (CHAT, lambda size: asking(**{"k" * size: 1})),
    "keys": (CHAT, lambda size: asking(**{f"k{number}": 0 for number in range(size // 10)})),
    "arguments": (
        CHAT,
        lambda size: asking(
            messages=[
                {
                    "role": "assistant",
                    "tool_calls": [{"function": {"name": "a", "arguments": "[" + "[]," * (size // 3)}}],
                }
            ]
        ),
    ),
    "an open string": (CHAT, lambda size: b'{"messages": "' + b"a" * size),
    "quotation marks": (CHAT, lambda size: b'"' * size),
    "backslashes": (CHAT, lambda size: b'{"messages": "' + b"\\" * size + b'"}'),
    "token ids": (COMPLETIONS, lambda size: b'{"prompt":[' + repeated(b"1,", size) + b"1]}"),
    "prompts": (COMPLETIONS, lambda size: b'{"prompt":[' + repeated(b'"a",', size) + b'"a"]}'),
    "a raw prompt": (COMPLETIONS, lambda size: json.dumps({"prompt": "hello " * (size // 6)}).encode()),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_two_megabytes_of_anything_are_refused_soon_and_without_much_memory(send: Send, kind: str) -> None:
    path, make = HOSTILE[kind]
    body = make(2 * MIB)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.thread_time()
    answer = send(path, body)
    spent = time.thread_time() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert answer.status_code == 400
    assert_answered(answer)
    # Once 6 s and 1.5 GiB. Far above the 0.05 s and 4 times the size that it takes: cores are shared.
    assert spent < 1.0 and grown < 4 * len(body) + 32 * MIB


@pytest.mark.parametrize("kind", HOSTILE)
def test_as_much_as_just_passes_the_bounds_is_answered_soon(send: Send, kind: str) -> None:
    path, make = HOSTILE[kind]
    started = time.thread_time()
    for size in (2_000, 16 * CONTEXT - 600, 3 * MOST_VALUES):
        assert_answered(send(path, make(size)))
    assert time.thread_time() - started < 2.0


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | st.text()
    | st.sampled_from(["user", "tool", "assistant", "<|im_end|>", "\ud800", "auto", "look", ""]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
PARTS = JSON | st.sampled_from([MESSAGE["content"], [{"type": "text", "text": "a"}], [{"type": "image_url"}]])
CALL = st.fixed_dictionaries(
    {"function": st.fixed_dictionaries({"name": st.sampled_from(["look", ""]) | JSON, "arguments": PARTS})},
    optional={"id": JSON, "type": JSON},
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system", "tool", "developer"]) | JSON, "content": PARTS},
        optional={"tool_calls": st.lists(CALL, max_size=2) | JSON, "tool_call_id": JSON, "name": JSON},
    ),
    max_size=3,
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "model": JSON,
    "tools": st.lists(st.just(TOOL) | JSON, max_size=2),
    "tool_choice": st.sampled_from(["auto", "none", "required", {"type": "function", "function": {"name": "look"}}])
    | JSON,
    "parallel_tool_calls": JSON,
    "stream": st.booleans() | JSON,
    "stream_options": JSON,
    "logprobs": st.booleans() | JSON,
    "top_logprobs": JSON,
    "n": st.sampled_from([1, 2]) | JSON,
    "seed": st.integers() | JSON,
    "stop": st.lists(st.text(max_size=3), max_size=3) | JSON,
    "max_tokens": st.integers(1, 5) | JSON,
    "temperature": st.just(1.0) | JSON,
    "return_token_ids": st.booleans() | JSON,
    "user": JSON,
    "response_format": JSON,
}
FUZZED = settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@FUZZED
@given(body=st.fixed_dictionaries({"messages": MESSAGES | JSON}, optional=FIELDS))
def test_any_chat_body_is_answered(send: Send, body: Any) -> None:
    assert_answered(send(CHAT, json.dumps(body).encode()))


@FUZZED
@given(
    prompt=st.text(max_size=20) | st.lists(st.integers(-1, 300) | st.integers(), max_size=5) | JSON,
    more=st.fixed_dictionaries({}, optional=FIELDS),
)
def test_any_completions_body_is_answered(send: Send, prompt: Any, more: Any) -> None:
    assert_answered(send(COMPLETIONS, json.dumps({"prompt": prompt, **more}).encode()))


@FUZZED
@given(start=st.binary(max_size=30), cut=st.integers(0, 200), tail=st.binary(max_size=30))
def test_any_bytes_are_answered(send: Send, start: bytes, cut: int, tail: bytes) -> None:
    assert_answered(send(CHAT, start + tail))
    assert_answered(send(CHAT, asking(tools=[TOOL], stop=["a"])[:cut] + tail))


def count(value: Any) -> int:
    """The values in parsed JSON."""
    parts = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return 1 + sum(map(count, parts))


@given(value=JSON | st.lists(JSON, max_size=5), indent=st.sampled_from([None, 2]))
def test_the_values_of_a_text_are_never_counted_too_low(value: Any, indent: int | None) -> None:
    num_values = count(value)
    counted = num_values_at_most(json.dumps(value, indent=indent).encode(), 10**6)
    assert counted is not None and num_values <= counted <= 2 * num_values
    assert num_values_at_most(json.dumps(value).encode(), num_values - 1) is None


def test_what_is_in_strings_is_not_counted_however_it_is_escaped() -> None:
    assert num_values_at_most(b'{"a, [b]": [1, 2]}', 9) == 4
    assert num_values_at_most(json.dumps(["\\", '",[{', '\\",[,']).encode(), 9) == 4


def test_a_text_that_may_fit_is_left_to_the_engine_and_one_that_cannot_is_not_tokenized() -> None:
    counted: list[int] = []

    def a_token_a_word(piece: str) -> int:
        counted.append(len(piece))
        return len(piece.split())

    check_length("a" * 4096, 10, a_token_a_word)  # short texts are always tried
    check_length("abcdefg " * 10_000, 10_000, a_token_a_word)  # 8 bytes a token: counted, and left to the engine
    assert sum(counted) == 80_000
    with pytest.raises(ContextOverflowError, match="a prompt of 200000 bytes leaves no room in a context of 10000"):
        check_length("a" * 200_000, 10_000, a_token_a_word)
    assert sum(counted) == 80_000
    with pytest.raises(ContextOverflowError, match="more than 10000 tokens"):
        check_length("a " * 70_000, 10_000, a_token_a_word)
    assert sum(counted) < 80_000 + 30_000


def test_headers_are_bounded_and_strange_requests_are_400(tokenizer: Any) -> None:
    made = Run(tokenizer)

    def program(tuner: AjetTuner) -> list[str]:
        address = tuner.as_oai_baseurl_apikey(agent_name="P1", target_tag="seer")
        host, port = address.base_url.removeprefix("http://").partition("/")[0].split(":")
        requests = [b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * (MOST_HEADER_BYTES // 6 + 100)]
        requests += [b"GET /" + b"a" * (MOST_HEADER_BYTES + 100), b"\0\1\2\r\n\r\n"]
        requests += [b"GET / HTTP/1.1\r\n" + start + b"a" * 2 * MOST_HEADER_BYTES for start in (b"", b"a: ")]
        requests += [2 * b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"]  # a connection carries one
        answers = [exchange(host, int(port), request) for request in requests]
        assert post(address).status_code == 200
        return [answer[:12].decode() for answer in answers]

    episode = made.one(program)
    made.endpoint.close()
    assert episode.metadata["said"] == ["HTTP/1.1 400"] * 6, episode.error


def exchange(host: str, port: int, request: bytes) -> bytes:
    with socket.create_connection((host, port), timeout=60) as connection:
        connection.sendall(request)
        return connection.recv(1000)


def test_a_body_in_chunks_is_asked_for_in_one_piece(tokenizer: Any) -> None:
    made = Run(tokenizer)
    host, port = made.endpoint.base_url().removeprefix("http://").removesuffix("/v1").split(":")
    request = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 1000
    )
    said = exchange(host, int(port), request)
    made.endpoint.close()
    assert said.startswith(b"HTTP/1.1 411")
