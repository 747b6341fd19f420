"""The endpoint's handler: OpenAI's format, keys, errors, streams, and what a trained agent may not ask for."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import httpx
import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from recipes.small_models.tokenizer import train_tokenizer
from tests.episodes import agent_model
from transformers import PreTrainedTokenizerBase

from ajet.chat.renderer import ChatRenderer
from ajet.chat.types import ChatModel, ChatReply, ChatRequest, NamedTool, ToolCall
from ajet.engine.scripted import ScriptedEngine
from ajet.errors import EngineError
from ajet.rollout.agent_model import AgentModel, EngineReplies
from ajet.rollout.endpoint.endpoint import Endpoint
from ajet.rollout.running_episode import RunningEpisode

ASK = {"messages": [{"role": "user", "content": "Say something."}]}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


class Replies:
    """Gives prepared replies in turn, or raises them, and keeps the requests."""

    def __init__(self, *replies: ChatReply | Exception) -> None:
        self._replies = list(replies)
        self.requests: list[ChatRequest] = []

    async def chat(self, request: ChatRequest) -> ChatReply:
        self.requests.append(request)
        reply = self._replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply


class Client:
    """A client of an endpoint with one key."""

    def __init__(self, model: ChatModel, *, trained: bool = True, ignore: bool = False) -> None:
        self.endpoint = Endpoint()
        self.model = model if isinstance(model, AgentModel) else agent_model(model, trained=trained, ignore=ignore)
        self.key = self.endpoint.open(self.model)

    def send(
        self, path: str, body: Any = None, *, method: str = "POST", authorization: str | None = None
    ) -> httpx.Response:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        key = (b"authorization", (authorization or f"Bearer {self.key}").encode("latin-1"))

        async def received() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.endpoint.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://ajet.invalid") as client:
                return await client.request(method, path, content=raw, headers=[key])

        return asyncio.run(received())

    def chat(self, **body: Any) -> Any:
        return self.send("/v1/chat/completions", {**ASK, **body}).json()

    def complete(self, **body: Any) -> Any:
        return self.send("/v1/completions", body).json()

    def error(self, path: str = "/v1/chat/completions", status: int = 400, **body: Any) -> Any:
        answer = self.send(path, {**ASK, **body})
        assert answer.status_code == status and answer.headers["x-should-retry"] == "false"
        return answer.json()["error"]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(["hello there world"] * 3, vocab_size=280, max_context=256)


def engine_model(
    tokenizer: PreTrainedTokenizerBase, *, max_context: int = 256, seed: int = 3
) -> tuple[AgentModel, RunningEpisode]:
    episode = RunningEpisode()
    replies = EngineReplies(
        engine=ScriptedEngine(len(tokenizer), max_context=max_context, seed=1),
        renderer=ChatRenderer(tokenizer),
        temperature=1.0,
        max_tokens=24,
    )
    return agent_model(replies, seed=seed, episode=episode), episode


def events(answer: httpx.Response) -> list[Any]:
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
    lines = answer.text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


def test_a_chat_reply_has_openais_shape() -> None:
    reply = ChatReply(content="I see.", num_prompt_tokens=7, num_sampled_tokens=3, finish_reason="length")
    said = Client(Replies(reply)).chat()
    (choice,) = said["choices"]
    assert said["object"] == "chat.completion" and said["model"] == "ajet-seer"
    assert choice["message"] == {"role": "assistant", "content": "I see.", "refusal": None}
    assert choice["finish_reason"] == "length" and choice["logprobs"] is None
    assert said["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def test_tools_choice_and_limits_reach_the_model_and_calls_come_back_with_ids_that_differ() -> None:
    call = ToolCall(name="look", arguments='{"at": 1}')
    replies = Replies(ChatReply(content="", tool_calls=(call, call)), ChatReply(content="", tool_calls=(call,)))
    client = Client(replies)
    tool = {"type": "function", "function": {**TOOL["function"], "strict": True}}  # type: ignore[dict-item]
    choice = {"type": "function", "function": {"name": "look"}}
    first = client.chat(
        tools=[tool], tool_choice=choice, max_tokens=9, max_completion_tokens=5, stop="\n", parallel_tool_calls=False
    )
    (request,) = replies.requests
    assert list(request.tools) == [TOOL] and request.tool_choice == NamedTool("look") and request.max_tokens == 5
    assert request.stop == ("\n",) and not request.parallel_tool_calls
    message = first["choices"][0]["message"]
    assert message["content"] is None and first["choices"][0]["finish_reason"] == "tool_calls"
    assert [c["function"] for c in message["tool_calls"]] == [{"name": "look", "arguments": '{"at": 1}'}] * 2
    second = client.chat(tools=[TOOL])["choices"][0]["message"]
    assert len({c["id"] for c in message["tool_calls"] + second["tool_calls"]}) == 3


def test_ids_of_calls_differ_between_agents_with_keys_of_their_own() -> None:
    reply = ChatReply(content="", tool_calls=(ToolCall(name="look", arguments="{}"),))
    client = Client(Replies(reply, reply))
    other = client.endpoint.open(agent_model(Replies(reply), name="P2", episode=client.model.episode))
    answers = [client.send("/v1/chat/completions", ASK, authorization=f"Bearer {key}") for key in (client.key, other)]
    said = [answer.json() for answer in answers]
    assert len({body["id"] for body in said}) == 2
    assert len({body["choices"][0]["message"]["tool_calls"][0]["id"] for body in said}) == 2


def test_every_form_of_a_reply_is_what_openais_types_describe() -> None:
    call = ToolCall(name="look", arguments='{"at": 1}')
    tokens: Any = {"sampled_ids": (5, 6), "logprobs": (-0.5, -0.25), "token_texts": ("I ", "see.")}
    called = ChatReply(content="I see.", tool_calls=(call,), num_prompt_tokens=7, num_sampled_tokens=2, **tokens)
    said = ChatReply(content="I see.", num_prompt_tokens=7, num_sampled_tokens=2, **tokens)
    client = Client(Replies(called, called, said, said))
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    ChatCompletion.model_validate(client.chat(tools=[TOOL], logprobs=True), strict=True)
    for piece in events(client.send("/v1/chat/completions", {**ASK, **usage, "tools": [TOOL], "logprobs": True})):
        ChatCompletionChunk.model_validate(piece, strict=True)
    Completion.model_validate(client.complete(prompt="Say", logprobs=0), strict=True)
    *pieces, last = events(client.send("/v1/completions", {"prompt": "Say", **usage, "logprobs": 0}))
    for piece in pieces:
        # Where a stream continues, OpenAI's servers say null, which their own type of a choice does not foresee.
        (choice,) = piece["choices"]
        Completion.model_validate({**piece, "choices": [{**choice, "finish_reason": "stop"}]}, strict=True)
    assert last["choices"] == [] and last["usage"]["total_tokens"] == 9


def test_a_stream_says_the_same_as_the_reply_in_one_piece() -> None:
    arguments = json.dumps({"where": "behind the old mill", "how": 2})
    reply = ChatReply(
        content="I look there.",
        tool_calls=(ToolCall(name="look", arguments=arguments), ToolCall(name="look", arguments="{}")),
        num_prompt_tokens=2,
        num_sampled_tokens=4,
    )
    client = Client(Replies(reply))
    body = {**ASK, "tools": [TOOL], "stream": True, "stream_options": {"include_usage": True}}
    *pieces, last = events(client.send("/v1/chat/completions", body))
    deltas = [piece["choices"][0]["delta"] for piece in pieces]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(delta.get("content", "") for delta in deltas) == "I look there."
    parts = [part for delta in deltas for part in delta.get("tool_calls", [])]
    spoken = ["".join(part["function"]["arguments"] for part in parts if part["index"] == i) for i in (0, 1)]
    assert spoken == [arguments, "{}"] and len(parts) > 4
    assert [part["function"]["name"] for part in parts if "id" in part] == ["look", "look"]
    assert [piece["choices"][0]["finish_reason"] for piece in pieces if piece["choices"][0]["finish_reason"]] == [
        "tool_calls"
    ]
    assert last["choices"] == [] and last["usage"]["total_tokens"] == 6
    assert all(piece["usage"] is None for piece in pieces)


def test_token_ids_and_logprobs_are_those_that_were_sampled(tokenizer: Any) -> None:
    model, episode = engine_model(tokenizer)
    said = Client(model).chat(return_token_ids=True, logprobs=True, top_logprobs=0)
    (call,) = episode.calls
    (choice,) = said["choices"]
    assert tuple(said["prompt_token_ids"]) == call.prompt_ids and tuple(choice["token_ids"]) == call.sampled_ids
    entries = choice["logprobs"]["content"]
    assert tuple(entry["logprob"] for entry in entries) == call.logprobs
    assert entries[0]["token"] == tokenizer.decode([call.sampled_ids[0]])
    assert said["usage"]["completion_tokens"] == len(call.sampled_ids)


def test_a_stop_text_ends_reply_and_record_where_it_is_complete(tokenizer: Any) -> None:
    free = Client(engine_model(tokenizer)[0]).chat()["choices"][0]["message"]["content"]
    stop = free[6:9]
    end = free.index(stop)
    model, episode = engine_model(tokenizer)
    choice = Client(model).chat(stop=["not in there", stop])["choices"][0]
    assert choice["message"]["content"] == free[:end].strip() and choice["finish_reason"] == "stop"
    (call,) = episode.calls
    assert stop in call.reply and stop not in ChatRenderer(tokenizer).reply_text(call.sampled_ids[:-1])
    assert len(call.sampled_ids) == len(call.logprobs)


def test_a_seed_repeats_a_reply_within_an_episode_and_not_across_episodes(tokenizer: Any) -> None:
    def said(seed: int) -> list[str]:
        client = Client(engine_model(tokenizer, seed=seed)[0])
        return [client.chat(seed=42)["choices"][0]["message"]["content"] for _ in range(2)]

    first, other = said(1), said(2)
    assert first[0] == first[1] and other[0] == other[1] and first[0] != other[0]


@pytest.mark.parametrize("prompt", ["once upon", ["once upon"], [5, 6, 7], [[5, 6, 7]]])
def test_a_raw_prompt_is_continued_without_the_chat_template(tokenizer: Any, prompt: Any) -> None:
    model, episode = engine_model(tokenizer)
    said = Client(model).complete(prompt=prompt, max_tokens=4, logprobs=0, return_token_ids=True)
    (call,) = episode.calls
    ids = tuple(tokenizer.encode("once upon", add_special_tokens=False)) if "once upon" in prompt else (5, 6, 7)
    assert call.prompt_ids == ids and call.messages[0]["content"] == tokenizer.decode(ids)
    (choice,) = said["choices"]
    assert said["object"] == "text_completion" and choice["token_ids"] == list(call.sampled_ids)
    assert choice["logprobs"]["token_logprobs"] == list(call.logprobs) and 1 <= len(call.sampled_ids) <= 4
    assert "".join(choice["logprobs"]["tokens"]).startswith(choice["text"]) or "�" in choice["text"]


def test_a_raw_prompt_streams_too(tokenizer: Any) -> None:
    whole = Client(engine_model(tokenizer)[0]).complete(prompt="once upon")["choices"][0]["text"]
    client = Client(engine_model(tokenizer)[0])
    pieces = events(client.send("/v1/completions", {"prompt": "once upon", "stream": True}))
    assert "".join(piece["choices"][0]["text"] for piece in pieces) == whole


def test_a_key_lists_its_own_model() -> None:
    client = Client(Replies())
    listed = client.send("/v1/models", method="GET").json()
    assert [model["id"] for model in listed["data"]] == ["ajet-seer"]
    assert client.send("/v1/models/ajet-seer", method="GET").status_code == 200
    assert client.send("/v1/models/gpt", method="GET").status_code == 404


@pytest.mark.parametrize("broken", ["", "Bearer", "Basic {key}", "Bearer {key}x", "Bearer sk-ajet-00-x", "Bearer é"])
def test_a_wrong_key_is_401_and_says_so(broken: str) -> None:
    client = Client(Replies())
    authorization = broken.format(key=client.key) or "nothing"
    answer = client.send("/v1/models", method="GET", authorization=authorization)
    assert answer.status_code == 401 and answer.json()["error"]["code"] == "invalid_api_key"


def test_a_key_dies_with_its_session_and_opens_no_other() -> None:
    client = Client(Replies(ChatReply(content="a"), ChatReply(content="b")))
    other = Client(Replies())
    assert other.send("/v1/models", method="GET", authorization=f"Bearer {client.key}").status_code == 401
    assert client.send("/v1/models", method="GET").status_code == 200
    client.endpoint.end(client.model.episode)
    assert client.send("/v1/models", method="GET").status_code == 401


def test_keys_are_long_and_none_comes_twice() -> None:
    endpoint, model = Endpoint(), agent_model(Replies())
    keys = {endpoint.open(model) for _ in range(50)}
    assert len(keys) == 50 and min(map(len, keys)) > 50


def test_a_conversation_that_outgrows_the_context_is_openais_error_and_counted(tokenizer: Any) -> None:
    model, episode = engine_model(tokenizer, max_context=8)
    error = Client(model).error()
    assert error["code"] == "context_length_exceeded" and error["type"] == "invalid_request_error"
    assert episode.context_overflows == 1 and not episode.calls


@pytest.mark.parametrize(
    ("failure", "said"),
    [(EngineError("the sampling engine failed"), "the sampling engine failed"), (KeyError("x"), "KeyError: 'x'")],
)
def test_what_fails_behind_the_endpoint_is_a_500_that_says_what(failure: Exception, said: str) -> None:
    error = Client(Replies(failure)).error(status=500)
    assert error["type"] == "server_error" and said in error["message"]


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"messages": []}, "messages", "invalid_type"),
        ({"messages": None}, "messages", "invalid_type"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages", "invalid_value"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_type"),
        ({"temperature": "hot"}, "temperature", "invalid_type"),
        ({"n": 2}, "n", "unsupported_value"),
        ({"stop": ""}, "stop", "invalid_value"),
        ({"top_logprobs": 3}, "top_logprobs", "unsupported_value"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type", "invalid_type"),
        ({"tool_choice": {"type": "function", "function": {"name": "fly"}}}, "tool_choice", "invalid_value"),
    ],
)
def test_a_body_that_cannot_work_names_the_parameter(tokenizer: Any, body: Any, param: str, code: str) -> None:
    error = Client(engine_model(tokenizer)[0]).error(**body)
    assert error["param"] == param and error["code"] == code and error["type"] == "invalid_request_error"


def test_bytes_that_are_no_json_are_refused() -> None:
    answer = Client(Replies()).send("/v1/chat/completions", b"{oh")
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "invalid_json"


def test_prompts_that_cannot_be_continued_are_refused(tokenizer: Any) -> None:
    client = Client(engine_model(tokenizer)[0])
    for prompt in ("", [], ["a", "b"], [10**9], [-1]):
        assert "error" in client.complete(prompt=prompt), prompt


def test_unknown_paths_and_methods_are_answered_in_the_same_format() -> None:
    client = Client(Replies())
    answer = client.send("/v1/embeddings", {})
    assert answer.status_code == 404 and "/v1/chat/completions" in answer.json()["error"]["message"]
    assert client.send("/v1/chat/completions", method="GET").status_code == 405


CHANGING: list[dict[str, Any]] = [
    {"temperature": 0.5},
    {"top_p": 0.9},
    {"top_k": 40},
    {"presence_penalty": 0.1},
    {"frequency_penalty": -1},
    {"repetition_penalty": 1.1},
    {"logit_bias": {"5": -100}},
    {"response_format": {"type": "json_object"}},
    {"guided_json": {}},
    {"structured_outputs": {"regex": "a+"}},
    {"reasoning_effort": "high"},
]


@pytest.mark.parametrize("body", CHANGING)
def test_a_trained_agent_is_refused_what_would_change_its_distribution(body: dict[str, Any]) -> None:
    replies = Replies(ChatReply(content="x"))
    error = Client(replies).error(**body)
    (param,) = body
    assert error["param"] == param and error["code"] == "unsupported_parameter" and not replies.requests
    assert "endpoint.unsupported=ignore" in error["message"]


def test_the_refusal_says_why() -> None:
    message = Client(Replies()).error(top_p=0.9)["message"]
    assert "sampled distribution differ from the one that is trained" in message
    assert "rollout.temperature=1" in Client(Replies()).error(temperature=0.2)["message"]


def test_values_that_change_nothing_pass() -> None:
    neutral = {"temperature": 1, "top_p": 1.0, "top_k": -1, "presence_penalty": 0, "logit_bias": None, "user": "me"}
    body = {**neutral, "response_format": {"type": "text"}, "frequency_penalty": 0.0, "store": False, "n": 1}
    assert Client(Replies(ChatReply(content="x"))).chat(**body)["choices"][0]["message"]["content"] == "x"


@pytest.mark.parametrize("body", CHANGING)
def test_an_agent_that_is_not_trained_may_ask_for_anything(body: dict[str, Any]) -> None:
    said = Client(Replies(ChatReply(content="x")), trained=False).chat(**body)
    assert said["choices"][0]["message"]["content"] == "x"


def test_what_is_not_supported_is_dropped_with_one_warning_where_the_config_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = Client(Replies(*[ChatReply(content="x")] * 3), ignore=True)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert client.chat(top_p=0.9, temperature=0.2)["choices"][0]["message"]["content"] == "x"
    assert [record.args[0] for record in caplog.records if record.args] == ["temperature", "top_p"]  # type: ignore[index]


@pytest.mark.parametrize("max_context", [8, 16])
def test_a_prompt_that_is_too_long_is_counted_as_an_overflow_wherever_that_is_noticed(
    tokenizer: Any, max_context: int
) -> None:
    model, episode = engine_model(tokenizer, max_context=max_context)
    for num_words in (10, 10_000):
        error = Client(model).error(messages=[{"role": "user", "content": "word " * num_words}])
        assert error["code"] == "context_length_exceeded"
    assert episode.context_overflows == 2 and episode.undelivered_calls == 0
