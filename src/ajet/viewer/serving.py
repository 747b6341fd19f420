"""Serving the viewer on loopback until Ctrl-C."""

from __future__ import annotations

import socket
from pathlib import Path

import uvicorn

from ajet.errors import ConfigError
from ajet.viewer.app import make_app

HOST = "127.0.0.1"


def serve(run_dir: Path, port: int) -> None:
    """Print the address and answer until Ctrl-C.

    Raises:
        RunDirectoryError: `run_dir` is none.
        ConfigError: the port is taken.
    """
    app = make_app(run_dir)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise ConfigError(f"--port {port} cannot be used ({error}): choose another, or 0 for any") from error
        print(f"http://{HOST}:{listener.getsockname()[1]}/  (Ctrl-C ends)", flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
