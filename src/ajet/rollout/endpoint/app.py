"""The endpoint as an ASGI application: one request in, one reply in OpenAI's format out.

    request ──▶ key ▶ AgentModel ──▶ bounded, checked body ──▶ AgentModel.chat ──▶ OpenAI's reply or error

The same application answers clients of this process (`httpx.ASGITransport`) and, through `over_sockets`, those of
the server. Whoever carries its replies puts a `Delivery` into the scope and confirms it as the reply is handed over;
without one a reply counts as received once it is sampled.

Plain ASGI rather than FastAPI, which reads a body whole before anything can look at its key or size, parses it before
its values are counted, and lists every fault it finds: two megabytes then cost seconds and gigabytes. With that, three
paths and OpenAI's own errors done by hand, nothing but its import would remain.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ajet.chat.types import ChatReply, ChatRequest, Delivery
from ajet.errors import AjetError, ContextOverflowError, EpisodeOverError, WorkflowError
from ajet.rollout.agent_model import AgentModel
from ajet.rollout.endpoint.api_error import ApiError, too_large, wrong_key
from ajet.rollout.endpoint.bodies import ChatBody, CompletionBody, ReplyForm, read_body
from ajet.rollout.endpoint.replies import HttpReply, ReplyWriter
from ajet.rollout.refusals import UnsupportedSettingError
from ajet.rollout.running_episode import Agent

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CHAT, COMPLETIONS, MODELS = "/v1/chat/completions", "/v1/completions", "/v1/models"
METHODS = {CHAT: "POST", COMPLETIONS: "POST", MODELS: "GET"}
EPISODES = "/e/"
"""Where the addresses of episodes begin."""
DELIVERY = "ajet.delivery"
"""The scope's key for a reply's `Delivery`."""
_DISCARDED = 4
"""Bodies' bounds that are read and dropped before a refusal: who is still sending reads no answer."""
_TURNS = 3
"""Of the loop, until a hang-up that has reached the socket has reached `receive`."""


class _HungUpError(Exception):
    """The client is gone: there is no one to answer."""


def model_name(agent: Agent) -> str:
    """What an agent's model is called to clients. No slash: some of them read a provider out of it."""
    return f"ajet-{agent.target_tag}"


def episode_path(episode: str) -> str:
    """The root of an episode's own address.

    Clients keep connections and caches by URL, some of them (LangChain's) across event loops and for the life of the
    process. What they keep of one episode must not meet another's requests.
    """
    return f"{EPISODES}{episode}"


class EndpointApp:
    """Answers requests for the models of one run. HTTP alone: no lifespan, no websockets."""

    def __init__(self, model_of: Callable[[str], AgentModel | None], *, max_body_bytes: int) -> None:
        """`model_of` finds what a key opens."""
        self._model_of = model_of
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; see ASGI. Raises nothing but cancellation."""
        with suppress(_HungUpError):
            await _send(await self._reply(scope, receive), send)

    async def _reply(self, scope: Scope, receive: Receive) -> HttpReply:
        headers = dict(scope["headers"])
        if b"transfer-encoding" in headers:
            # Chunks may be of one byte each, and a parser takes longer for a chunk than for a megabyte.
            refusal = ApiError(411, "Send the body with a Content-Length, not in chunks.", code="length_required")
            return HttpReply(status=refusal.status, body=refusal.body())
        incoming = _parts(receive)
        try:
            model = self._model(headers.get(b"authorization", b"").decode("latin-1"))  # without one no body is kept
            body = await _read(incoming, self._max_body_bytes)
        except ApiError as error:
            await _discard(incoming, _DISCARDED * self._max_body_bytes)
            return HttpReply(status=error.status, body=error.body())
        try:
            path = _path_within(scope["path"].rstrip("/"), model)
            return await _answer(scope["method"], path, body, model, scope.get(DELIVERY))
        except ApiError as error:
            return HttpReply(status=error.status, body=error.body())

    def _model(self, authorization: str) -> AgentModel:
        """The model that a header's key opens.

        Raises:
            ApiError: 401.
        """
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise wrong_key("Send the key that ajet gave you as `Authorization: Bearer <key>`.")
        model = self._model_of(key.strip())
        if model is None:
            raise wrong_key("This key opens no running episode: it is wrong, or its episode is over.")
        return model


def _path_within(path: str, model: AgentModel) -> str:
    """The path below the address of the model's episode, e.g. `/v1/models`. Without an episode in front it is taken as
    it is: a client in this process has no address.

    Raises:
        ApiError: 401, for an address of another episode.
    """
    if not path.startswith(EPISODES):
        return path
    root = episode_path(model.episode.name)
    if not path.startswith(f"{root}/"):
        raise wrong_key("This key is not of the episode whose address this is: keep the two together.")
    return path.removeprefix(root)


async def _answer(method: str, path: str, body: bytearray, model: AgentModel, delivery: Delivery | None) -> HttpReply:
    if path.startswith(f"{MODELS}/"):
        return _model_card(path.removeprefix(f"{MODELS}/"), model)
    if path not in METHODS:
        raise ApiError(404, f"There is no {path}; there is {', '.join(METHODS)}.", code="unknown_url")
    if method != METHODS[path]:
        raise ApiError(405, f"{path} takes {METHODS[path]}, not {method}.", code="method_not_supported")
    if path == MODELS:
        return HttpReply(status=200, body=json.dumps({"object": "list", "data": [_card(model)]}).encode())
    if path == CHAT:
        chat = read_body(ChatBody, body)
        return (await _ask(model, chat.request(), chat.form(logprobs=bool(chat.logprobs)), delivery)).chat()
    raw = read_body(CompletionBody, body, num_ids=model.max_context)
    return (await _ask(model, raw.request(), raw.form(logprobs=raw.logprobs is not None), delivery)).completion()


async def _ask(model: AgentModel, request: ChatRequest, form: ReplyForm, delivery: Delivery | None) -> ReplyWriter:
    reply = await _reply_of(model, replace(request, delivery=delivery))
    return ReplyWriter(reply=reply, form=form, model_name=model_name(model.agent))


async def _reply_of(model: AgentModel, request: ChatRequest) -> ChatReply:
    """The model's reply, or what went wrong in the words and status that clients know."""
    try:
        return await model.chat(request)
    except UnsupportedSettingError as error:
        raise ApiError(400, str(error), code="unsupported_parameter", param=error.setting) from error
    except ContextOverflowError as error:
        raise ApiError(400, str(error), code="context_length_exceeded", param="messages") from error
    except EpisodeOverError as error:
        raise wrong_key(str(error)) from error
    except WorkflowError as error:
        raise ApiError(400, str(error), code="invalid_value", param="messages") from error
    except AjetError as error:
        raise ApiError(500, str(error)) from error
    except Exception as error:  # the boundary to opponents that users write: the client learns what they raised
        tag = model.agent.target_tag
        log.exception("the opponent of %s failed", tag)
        raise ApiError(500, f"The player of {tag} failed: {type(error).__name__}: {error}") from error


def _model_card(name: str, model: AgentModel) -> HttpReply:
    own = model_name(model.agent)
    if name != own:
        message = f"There is no model {name!r}; this key's is {own!r}."
        raise ApiError(404, message, code="model_not_found", param="model")
    return HttpReply(status=200, body=json.dumps(_card(model)).encode())


def _card(model: AgentModel) -> dict[str, object]:
    return {"id": model_name(model.agent), "object": "model", "created": 0, "owned_by": "ajet"}


async def _parts(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _HungUpError
        more = message.get("more_body", False)
        yield message.get("body", b"")


async def _read(incoming: AsyncIterator[bytes], max_bytes: int) -> bytearray:
    """The body, kept no further than the bound.

    Raises:
        ApiError: 413.
    """
    body = bytearray()
    async for part in incoming:
        body += part
        if len(body) > max_bytes:
            raise too_large(max_bytes)
    return body


async def _discard(incoming: AsyncIterator[bytes], max_bytes: int) -> None:
    num_bytes = 0
    async for part in incoming:
        num_bytes += len(part)
        if num_bytes > max_bytes:
            return


async def _send(reply: HttpReply, send: Send) -> None:
    headers = [(name.encode(), value.encode()) for name, value in reply.headers.items()]
    if reply.events is None:
        headers.append((b"content-length", str(len(reply.body)).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    for event in reply.events or ():
        await send({"type": "http.response.body", "body": event, "more_body": True})
    await send({"type": "http.response.body", "body": reply.body})


def over_sockets(app: App) -> App:
    """The application as a server runs it: a request is aborted or its reply dropped, and so is not a call to train on,
    where the client hangs up before the reply is sent."""

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        delivery = Delivery()
        watching: list[asyncio.Task[None]] = []
        answering = asyncio.current_task()
        assert answering is not None

        async def received() -> Message:
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                gone = asyncio.ensure_future(_hang_up(receive))
                gone.add_done_callback(lambda task: task.cancelled() or answering.cancel())
                watching.append(gone)
            return message

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                for _ in range(_TURNS):
                    await asyncio.sleep(0)
                if any(gone.done() for gone in watching):
                    raise _HungUpError
                # Before the first byte leaves: with it the program may end its episode, on a thread that waits for
                # nobody.
                delivery.confirm()
            await send(message)

        # Cancelled: the client is gone or the server is being stopped. Both are expected, and a server prints what
        # leaves here.
        with suppress(asyncio.CancelledError):
            try:
                await app({**scope, DELIVERY: delivery}, received, sent)
            finally:
                for gone in watching:
                    gone.cancel()

    return served


async def _hang_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
