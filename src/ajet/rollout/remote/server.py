"""What workers speak with: JSON over HTTP, each request with the key that both sides have from `AJET_WORKER_KEY`.

    POST /claim                     {worker, wait_s, version}              an episode, or 204 where none came in time
    POST /episodes/<id>/renew       {}                                     204: still its worker's
    POST /episodes/<id>/agent       {agent_name, target_tag, has_own_model}  URL, key and model's name
    POST /episodes/<id>/add_reward  {value, agent_name}                    204
    POST /episodes/<id>/context     {}                                     whether a conversation outgrew the context
    POST /episodes/<id>/finish      a `WorkflowOutput`                     204
    POST /episodes/<id>/abort       {error, policy}                        204

Errors are `{"error": <a sentence>}`: 400 for what is asked wrongly, 401 for the key, 410 for an episode that is over.
One server a process and address, kept from run to run: a sweep's workers stay.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ajet.errors import ConfigError, WorkflowError
from ajet.rollout.endpoint.server import EndpointServer
from ajet.rollout.remote.agreed import KEY, VERSION, worker_key
from ajet.rollout.remote.queue import EpisodeGoneError, EpisodeQueue
from ajet.workflow import WorkflowOutput

LONGEST_WAIT_S = 60.0
MOST_BYTES = 32 * 2**20
"""Of a request's body."""
ANY_HOST = ("0.0.0.0", "::")
_ANSWER_S = 30.0
"""For an episode's answer, which no engine is asked for."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ClaimBody(_Body):
    """Of `/claim`."""

    worker: str = Field(min_length=1, max_length=200)
    """A name for messages."""
    wait_s: float = Field(default=10.0, ge=0, le=LONGEST_WAIT_S)
    version: Literal[1] = VERSION


class AgentBody(_Body):
    """Of `agent`; as `AjetTuner.as_oai_baseurl_apikey` takes them."""

    agent_name: str | None = None
    target_tag: str | None = None
    has_own_model: bool = False


class AddRewardBody(_Body):
    """Of `add_reward`."""

    value: float
    agent_name: str | None = None


class AbortBody(_Body):
    """Of `abort`."""

    error: str = Field(max_length=2000)
    policy: bool = False
    """Whether the policy is to blame: such an episode counts, with `rollout.policy_error_reward`."""


VERBS: Mapping[str, type[BaseModel]] = {
    "renew": _Body,
    "agent": AgentBody,
    "add_reward": AddRewardBody,
    "context": _Body,
    "finish": WorkflowOutput,
    "abort": AbortBody,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Served:
    queue: EpisodeQueue
    key: str
    server: EndpointServer
    """Until the process ends."""


_SERVED: dict[tuple[str, int], _Served] = {}
_STARTING = Lock()


def queue_at(host: str, port: int) -> EpisodeQueue:
    """The queue that workers at this address claim from; the first time, its server is started and said to the user.

    Raises:
        ConfigError: no key in the environment, another than this process had before, or the address cannot be bound.
    """
    key = worker_key()
    with _STARTING:
        served = _SERVED.get((host, port))
        if served is None:
            served = _SERVED[host, port] = _serve(host, port, key)
    if served.key != key:
        raise ConfigError(f"{KEY} was another when this process began to serve workers at port {port}: keep it")
    return served.queue


def _serve(host: str, port: int, key: str) -> _Served:
    queue = EpisodeQueue()
    app = Starlette(routes=EpisodeRoutes(queue, key, host).routes())
    server = EndpointServer(app, host=host, port=port, setting="workflow.params.port")
    origin = f"http://{socket.gethostname()}:{port}" if host in ANY_HOST else server.origin
    print(f"episodes wait for workers: python -m ajet.rollout.worker {origin} <workflow>", file=sys.stderr, flush=True)
    return _Served(queue=queue, key=key, server=server)


class EpisodeRoutes:
    """The routes over one queue."""

    def __init__(self, queue: EpisodeQueue, key: str, host: str) -> None:
        """`host` as the endpoint listens on it: where that is any, workers get the name that they reached us by."""
        self._queue = queue
        self._key = key
        self._host = host

    def routes(self) -> list[Route]:
        """For an application."""
        return [
            Route("/claim", self._guarded(self._claim), methods=["POST"]),
            Route("/episodes/{episode}/{verb}", self._guarded(self._verb), methods=["POST"]),
        ]

    def _guarded(self, answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            given = request.headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), self._key.encode()):
                return _error(401, f"Send the trainer's {KEY} as `Authorization: Bearer <key>`.")
            length = request.headers.get("content-length", "")
            if not length.isdecimal() or int(length) > MOST_BYTES:
                return _error(413, f"Send a Content-Length, of {MOST_BYTES} bytes at most.")
            try:
                return await answer(request)
            except EpisodeGoneError as error:
                return _error(410, str(error))
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                where = ".".join(map(str, first["loc"]))
                return _error(400, f"{where}: {first['msg']}" if where else first["msg"])
            except (ConfigError, WorkflowError) as error:
                return _error(400, str(error))
            except TimeoutError:
                return _error(503, f"The episode did not answer within {_ANSWER_S:g} s.")
            except Exception as error:  # what a user's opponent raised; the run says it, too
                return _error(500, f"{type(error).__name__}: {error}")

        return guarded

    async def _claim(self, request: Request) -> Response:
        body = ClaimBody.model_validate(await _read(request))
        claim = self._queue.claim()
        try:
            await asyncio.wait({asyncio.wrap_future(claim)}, timeout=body.wait_s)
        except asyncio.CancelledError:  # the worker has hung up
            self._queue.take_back(claim)
            raise
        if claim.cancel():
            return Response(status_code=204)
        answer = claim.result().ask("claim", {"worker": body.worker})
        return _json(await asyncio.wait_for(asyncio.wrap_future(answer), _ANSWER_S))

    async def _verb(self, request: Request) -> Response:
        verb = request.path_params["verb"]
        if verb not in VERBS:
            return _error(404, f"There is no {verb}; there is {', '.join(VERBS)}.")
        episode = self._queue.running(request.path_params["episode"])
        body = VERBS[verb].model_validate(await _read(request)).model_dump()
        said = await asyncio.wait_for(asyncio.wrap_future(episode.ask(verb, body)), _ANSWER_S)
        if said is None:
            return Response(status_code=204)
        return _json(self._reachable(said, request))

    def _reachable(self, said: dict[str, Any], request: Request) -> dict[str, Any]:
        """With the name in the model's address that this worker has for this machine."""
        named = request.url.hostname
        if self._host not in ANY_HOST or not said.get("base_url") or named is None:
            return said
        parts = urlsplit(said["base_url"])
        name = f"[{named}]" if ":" in named else named
        return {**said, "base_url": f"{parts.scheme}://{name}:{parts.port}{parts.path}"}


async def _read(request: Request) -> Any:
    """The body; as Python writes JSON, it may hold NaN and infinities.

    Raises:
        WorkflowError: it is no JSON.
    """
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise WorkflowError(f"The body is no JSON: {error}") from error


def _json(content: Mapping[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(content), status_code=status, media_type="application/json")


def _error(status: int, message: str) -> Response:
    return _json({"error": message}, status)
