"""The OpenAI SDK: an agent's model behind a real `openai.AsyncOpenAI`, without a socket.

Requests go straight into the endpoint's ASGI application, on the caller's loop, and nothing waits on the way.

Two things are easier than in the SDK itself: `chat.completions.create` takes the messages as its first positional
argument, and knows its model's name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from functools import cached_property
from typing import Any, cast

import httpx
from openai import AsyncOpenAI
from openai.resources.chat import AsyncChat, AsyncCompletions
from openai.types.chat import ChatCompletionMessageParam

from ajet.chat.types import Delivery
from ajet.errors import ConfigError
from ajet.rollout.agent_model import AgentModel
from ajet.rollout.endpoint.app import DELIVERY, App, Receive, Scope, Send, model_name
from ajet.rollout.endpoint.endpoint import Endpoint, OpenAIAddress

BASE_URL = "http://ajet.invalid/v1"
"""Of clients in this process; the host is never looked up (RFC 2606)."""


class OpenAIClient(AsyncOpenAI):
    """What `tuner.as_raw_openai_sdk_client()` returns."""

    def __init__(self, *, model: str = "", **arguments: Any) -> None:
        """`model` is the name used where a request gives none; `arguments` are the SDK's own."""
        super().__init__(**arguments)
        self.model = model
        # The SDK would find this out on a thread at the first request, and when that thread is done is up to the
        # machine: which requests meet in one batch would differ from run to run.
        self._platform = cast(Any, self.platform_headers()["X-Stainless-OS"])

    @cached_property
    def chat(self) -> AsyncChat:
        """As the SDK's, with the model's name filled in."""
        return _Chat(self)

    def copy(self, **changes: Any) -> OpenAIClient:
        """As the SDK's, which makes another client of this class."""
        copied = super().copy(**changes)
        copied.model = self.model
        return copied

    with_options = copy


class _Chat(AsyncChat):
    def __init__(self, client: OpenAIClient) -> None:
        super().__init__(client)
        self._openai_client = client

    @cached_property
    def completions(self) -> AsyncCompletions:
        return _Completions(self._openai_client)


class _Completions(AsyncCompletions):
    def __init__(self, client: OpenAIClient) -> None:
        super().__init__(client)
        self._openai_client = client

    async def create(
        self, messages: Iterable[ChatCompletionMessageParam], *, model: str | None = None, **arguments: Any
    ) -> Any:
        return await super().create(messages=messages, model=model or self._openai_client.model, **arguments)

    async def parse(
        self, messages: Iterable[ChatCompletionMessageParam], *, model: str | None = None, **arguments: Any
    ) -> Any:
        return await super().parse(messages=messages, model=model or self._openai_client.model, **arguments)

    def stream(
        self, messages: Iterable[ChatCompletionMessageParam], *, model: str | None = None, **arguments: Any
    ) -> Any:
        return super().stream(messages=messages, model=model or self._openai_client.model, **arguments)


class InProcessTransport(httpx.AsyncBaseTransport):
    """`httpx.ASGITransport`, which also says when a reply is received: as its first piece is read."""

    def __init__(self, app: App) -> None:
        """`app` also answers the server."""
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One request; see httpx."""
        delivery = Delivery()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await self._app({**scope, DELIVERY: delivery}, receive, send)

        response = await httpx.ASGITransport(app=app).handle_async_request(request)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        stream = _Received(response.stream, delivery)
        return httpx.Response(response.status_code, headers=response.headers, stream=stream)


class _Received(httpx.AsyncByteStream):
    """A stream whose reader receives a reply; one that is never begun was not received."""

    def __init__(self, stream: httpx.AsyncByteStream, delivery: Delivery) -> None:
        self._stream = stream
        self._delivery = delivery

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._delivery.confirm()
        async for piece in self._stream:
            yield piece


def in_process_client(endpoint: Endpoint, model: AgentModel) -> OpenAIClient:
    """A client of the run's own endpoint. It never retries: where a reply fails, the whole episode is played again."""
    return OpenAIClient(
        model=model_name(model.agent),
        api_key=endpoint.open(model),
        base_url=BASE_URL,
        http_client=httpx.AsyncClient(transport=InProcessTransport(endpoint.app), trust_env=False, timeout=None),
        max_retries=0,
    )


def own_client(debug_model: Any) -> AsyncOpenAI:
    """A workflow's own `debug_model` as a client.

    Args:
        debug_model: an `AsyncOpenAI`, taken as it is, or anything with `base_url`, `api_key` and `model`.

    Raises:
        ConfigError: it is neither.
    """
    if isinstance(debug_model, AsyncOpenAI):
        return debug_model
    address = OpenAIAddress.of(debug_model)
    if address is None:
        raise ConfigError(
            f"debug_model={type(debug_model).__name__}: as_raw_openai_sdk_client takes an openai.AsyncOpenAI, or an "
            "object with base_url, api_key and model, e.g. ajet.OpenAIAddress."
        )
    return OpenAIClient(model=address.model, base_url=address.base_url, api_key=address.api_key)
