"""What workers speak with: JSON over HTTP, each request with the key that both sides have from `AJET_WORKER_KEY`.

    POST /claim                     {worker, wait_s}                       an episode, or 204 where none came in time
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
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from threading import Lock, Thread
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ajet.errors import ConfigError, WorkflowError
from ajet.rollout.remote.queue import EpisodeGoneError, EpisodeQueue
from ajet.workflow import WorkflowOutput

KEY = "AJET_WORKER_KEY"
LONGEST_WAIT_S = 60.0
MOST_BYTES = 8 * 2**20
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
_SERVERS: dict[tuple[str, int], EpisodeQueue] = {}
_STARTING = Lock()


def queue_at(host: str, port: int, lease_s: float) -> EpisodeQueue:
    """The queue that workers at this address claim from; the first time, its server is started and said to the user.

    Raises:
        ConfigError: no key in the environment, or the address cannot be bound.
    """
    with _STARTING:
        if (host, port) not in _SERVERS:
            key = os.environ.get(KEY, "")
            if len(key) < 16 or not key.isascii() or not key.isprintable():
                raise ConfigError(
                    f"Workers are let in by a key: export {KEY} here and where they run, 16 characters or more, "
                    "e.g. of `openssl rand -hex 16`"
                )
            queue = EpisodeQueue()
            _serve(Starlette(routes=EpisodeRoutes(queue, key, host).routes()), host, port)
            _SERVERS[host, port] = queue
            shown = socket.gethostname() if host in ANY_HOST else host
            print(
                f"episodes wait for workers, leases of {lease_s:g} s: "
                f"python -m ajet.rollout.worker http://{shown}:{port} <workflow>",
                file=sys.stderr,
                flush=True,
            )
        return _SERVERS[host, port]


def _serve(app: Starlette, host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise ConfigError(
            f"endpoint.host={host} workflow.params.port={port} cannot be served: {error.strerror or error}; choose "
            "another workflow.params.port (several processes of one run cannot share one)"
        ) from error
    config = uvicorn.Config(app, log_config=None, log_level="critical", access_log=False, lifespan="off", ws="none")
    server = uvicorn.Server(config)
    Thread(target=lambda: server.run(sockets=[listening]), name="ajet-workers", daemon=True).start()


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
            if not 0 <= int(request.headers.get("content-length", "-1")) <= MOST_BYTES:
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

        return guarded

    async def _claim(self, request: Request) -> Response:
        body = ClaimBody.model_validate_json(await request.body())
        claim = self._queue.claim()
        try:
            episode = await asyncio.wait_for(asyncio.wrap_future(claim), body.wait_s or 0.01)
        except TimeoutError:
            return Response(status_code=204)
        answer = episode.ask("claim", {"worker": body.worker})
        return JSONResponse(await asyncio.wait_for(asyncio.wrap_future(answer), _ANSWER_S))

    async def _verb(self, request: Request) -> Response:
        verb = request.path_params["verb"]
        if verb not in VERBS:
            return _error(404, f"There is no {verb}; there is {', '.join(VERBS)}.")
        episode = self._queue.running(request.path_params["episode"])
        body = VERBS[verb].model_validate_json(await request.body()).model_dump()
        said = await asyncio.wait_for(asyncio.wrap_future(episode.ask(verb, body)), _ANSWER_S)
        if said is None:
            return Response(status_code=204)
        return JSONResponse(self._reachable(said, request))

    def _reachable(self, said: dict[str, Any], request: Request) -> dict[str, Any]:
        """With the name in the model's address that this worker has for this machine."""
        named = request.url.hostname
        if self._host not in ANY_HOST or not said.get("base_url") or named is None:
            return said
        parts = urlsplit(said["base_url"])
        name = f"[{named}]" if ":" in named else named
        return {**said, "base_url": parts._replace(netloc=f"{name}:{parts.port}").geturl()}


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status_code=status)
