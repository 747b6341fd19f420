"""Serving the viewer on loopback until Ctrl-C."""

from __future__ import annotations

import socket
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from ajet.analysis import is_run
from ajet.errors import ConfigError
from ajet.view.app import make_app
from ajet.view.folder import RunFolder, make_folder_app

HOST = "127.0.0.1"


def application(path: Path) -> FastAPI:
    """The pages of a run, or of a folder of runs, which are printed."""
    if is_run(path):
        return make_app(path)
    folder = RunFolder(path)
    print("\n".join(run.line for run in folder.runs()))
    return make_folder_app(folder)


def serve(path: Path, port: int) -> None:
    """Print the address and answer until Ctrl-C.

    Args:
        path: a run, or a folder of runs, which are listed on the console, too.
        port: 0: any that is free.

    Raises:
        RunDirectoryError: there is no run.
        ConfigError: the port is taken.
    """
    app = application(path)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise ConfigError(f"--port {port} cannot be used ({error}): choose another, or 0 for any") from error
        print(f"http://{HOST}:{listener.getsockname()[1]}/  (Ctrl-C ends)", flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
