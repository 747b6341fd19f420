"""SkyRL's Tinker server as it is, where it runs as a process beside ajet's own packages, on Python 3.11 too.

In: SkyRL's own command line (`python skyrl_server.py --base-model <directory> --backend jax --port 8000 …`). Out: its
HTTP server, which starts its engine as this file again (`engine` as the first word). Both end when standard input ends,
if that is a pipe. Runs with `.venv/tinker-server` on `PYTHONPATH`, so it imports nothing of ajet.

What is put right, each of which SkyRL 0.4.0 does otherwise:
- pydantic wants `TypedDict` of `typing_extensions` before Python 3.12, which SkyRL asks for;
- the engine is started by `uv run` with the flags of a `uv run` above the server: here by this interpreter;
- clients of the SDK from 0.26 on want an id for each sequence in the answer to `asample`;
- no key is asked for: where `TINKER_SERVER_KEY` is set, requests with another are refused as the hosted service does.
"""

from __future__ import annotations

import argparse
import json
import os
import stat
import sys
import threading
import typing
from pathlib import Path
from typing import Any

import typing_extensions
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

KEY = "TINKER_SERVER_KEY"
SAMPLE = "/api/v1/asample"


class OneKeyOnly:
    """401 where the key is not the server's. Not FastAPI's middleware, which hands on a download line by line."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http" and Request(scope).headers.get("X-API-Key") != self._key:
            await JSONResponse({"detail": "Invalid API key"}, status_code=401)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class NamedSequences:
    """Answers to `asample` have an id for each sequence that was asked for."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or scope["path"] != SAMPLE:
            await self._app(scope, receive, send)
            return
        asked = await Request(scope, receive).body()
        status, answer = 500, b""

        async def replay() -> Message:
            return {"type": "http.request", "body": asked, "more_body": False}

        async def collect(message: Message) -> None:
            nonlocal status, answer
            status = message.get("status", status)
            answer += message.get("body", b"")

        await self._app(scope, replay, collect)
        if status == 200:
            told, num = json.loads(answer), json.loads(asked).get("num_samples", 1)
            names = [f"{told['request_id']}-{index}" for index in range(num)]
            answer = json.dumps(told | {"sample_sequence_ids": names}).encode()
        await Response(answer, status, media_type="application/json")(scope, receive, send)


def serve() -> None:
    """Run the HTTP server, and its engine, until it is told to stop."""
    import uvicorn
    from skyrl.tinker import api
    from skyrl.tinker.config import EngineConfig, add_model, config_to_argv

    parser = argparse.ArgumentParser(description="SkyRL's Tinker server")
    add_model(parser, EngineConfig)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    settings = vars(parser.parse_args())
    host, port = settings.pop("host"), settings.pop("port")

    def start_engine(_above: list[str], config: Any) -> list[str]:
        return [sys.executable, "-P", str(Path(__file__).resolve()), "engine", *config_to_argv(config)]

    api._build_uv_run_cmd_engine = start_engine
    api.app.state.engine_config = EngineConfig.model_validate(settings)
    app: ASGIApp = NamedSequences(api.app)
    if key := os.environ.get(KEY):
        app = OneKeyOnly(app, key)
    uvicorn.run(app, host=host, port=port, log_level="warning")


def run_engine() -> None:
    """Run what samples and trains, as the HTTP server asks for it through the database."""
    from skyrl.tinker.engine import main

    main()


def _end_with_the_pipe() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    if sys.version_info < (3, 12):
        setattr(typing, "TypedDict", typing_extensions.TypedDict)  # noqa: B010  # a plain assignment is no valid type
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        threading.Thread(target=_end_with_the_pipe, daemon=True).start()
    if sys.argv[1:2] == ["engine"]:
        del sys.argv[1]
        run_engine()
    else:
        serve()
