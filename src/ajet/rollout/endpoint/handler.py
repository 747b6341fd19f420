"""One request in, one answer out: what the HTTP server and the in-process transport share.

Nothing here knows sockets. Whatever goes wrong becomes an error in OpenAI's format.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace

from ajet.chat.delivery import Delivery
from ajet.chat.types import ChatReply, ChatRequest
from ajet.errors import AjetError, ContextOverflowError, EpisodeOverError, WorkflowError
from ajet.rollout.endpoint.api_error import ApiError, wrong_key
from ajet.rollout.endpoint.bodies import ChatBody, CompletionBody, ReplyForm, read_body
from ajet.rollout.endpoint.refusals import Refusals
from ajet.rollout.endpoint.replies import Answer, ReplyWriter
from ajet.rollout.endpoint.sessions import Session, SessionTable, path_within

log = logging.getLogger(__name__)

CHAT, COMPLETIONS, MODELS = "/v1/chat/completions", "/v1/completions", "/v1/models"
METHODS = {CHAT: "POST", COMPLETIONS: "POST", MODELS: "GET"}


class Handler:
    """Answers requests for the sessions of one run."""

    def __init__(self, sessions: SessionTable, refusals: Refusals) -> None:
        """`sessions` says whose key it is, `refusals` what it may ask for."""
        self._sessions = sessions
        self._refusals = refusals

    async def answer(self, *, method: str, path: str, authorization: str | None, body: bytes | bytearray) -> Answer:
        """Answer one request; never raises, save for cancellation.

        Args:
            method: HTTP's, upper case.
            path: from the root, the episode's own and `/v1` included.
            authorization: the header, `Bearer <key>`.
            body: all of it.
        """
        try:
            return await self._answer(method, path.rstrip("/"), self.session(authorization), body)
        except ApiError as error:
            return Answer(status=error.status, body=error.body())

    def session(self, authorization: str | None) -> Session:
        """The session that a header's key opens.

        Raises:
            ApiError: 401.
        """
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise wrong_key("Send the key that ajet gave you as `Authorization: Bearer <key>`.")
        session = self._sessions.find(key.strip())
        if session is None:
            raise wrong_key("This key opens no running episode: it is wrong, or its episode is over.")
        return session

    async def _answer(self, method: str, full_path: str, session: Session, body: bytes | bytearray) -> Answer:
        path = path_within(full_path, session)
        if path is None:
            raise wrong_key("This key is not of the episode whose address this is: keep the two together.")
        if path.startswith(f"{MODELS}/"):
            return self._model(path.removeprefix(f"{MODELS}/"), session)
        if path not in METHODS:
            raise ApiError(404, f"There is no {path}; there is {', '.join(METHODS)}.", code="unknown_url")
        if method != METHODS[path]:
            raise ApiError(405, f"{path} takes {METHODS[path]}, not {method}.", code="method_not_supported")
        if path == MODELS:
            return Answer(status=200, body=json.dumps({"object": "list", "data": [_card(session)]}).encode())
        if path == CHAT:
            return await self._chat(session, body)
        return await self._complete(session, body)

    async def _chat(self, session: Session, raw: bytes | bytearray) -> Answer:
        body = read_body(ChatBody, raw)
        form = body.form(logprobs=bool(body.logprobs))
        writer, delivery = await self._reply(session, body.request(), form)
        return replace(writer.chat(), delivery=delivery)

    async def _complete(self, session: Session, raw: bytes | bytearray) -> Answer:
        body = read_body(CompletionBody, raw, num_ids=session.max_context)
        form = body.form(logprobs=body.logprobs is not None)
        writer, delivery = await self._reply(session, body.request(), form)
        return replace(writer.completion(), delivery=delivery)

    async def _reply(self, session: Session, request: ChatRequest, form: ReplyForm) -> tuple[ReplyWriter, Delivery]:
        self._refusals.check(request.settings, session)
        delivery = Delivery()
        reply = await _ask(session, replace(request, delivery=delivery))
        reply_id = reply.id or str(next(self._sessions.reply_numbers))
        return ReplyWriter(reply=reply, reply_id=reply_id, form=form, model_name=session.model_name), delivery

    def _model(self, name: str, session: Session) -> Answer:
        if name != session.model_name:
            message = f"There is no model {name!r}; this key's is {session.model_name!r}."
            raise ApiError(404, message, code="model_not_found", param="model")
        return Answer(status=200, body=json.dumps(_card(session)).encode())


async def _ask(session: Session, request: ChatRequest) -> ChatReply:
    """The model's reply, or what went wrong in the words and status that clients know."""
    try:
        return await session.model.chat(request)
    except ContextOverflowError as error:
        raise ApiError(400, str(error), code="context_length_exceeded", param="messages") from error
    except EpisodeOverError as error:
        raise wrong_key(str(error)) from error
    except WorkflowError as error:
        raise ApiError(400, str(error), code="invalid_value", param="messages") from error
    except AjetError as error:
        raise ApiError(500, str(error)) from error
    except Exception as error:  # the boundary to players that users write: the client learns what they raised
        log.exception("the player of %s failed", session.target_tag)
        raise ApiError(500, f"The player of {session.target_tag} failed: {type(error).__name__}: {error}") from error


def _card(session: Session) -> dict[str, object]:
    return {"id": session.model_name, "object": "model", "created": 0, "owned_by": "ajet"}
