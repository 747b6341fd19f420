"""Start a Tinker server on this machine's CPU and leave it running until Ctrl-C.

    make setup-tinker
    python -m recipes.tinker_server                             # the small model that ships with ajet
    python -m recipes.tinker_server my/checkpoint --port 8000

Its URL is the first line; any key that begins with `tml-` does. Its database, checkpoints and log stay in the folder.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from recipes.tinker_server.process import TinkerServer

from ajet.config.model import resolve_model_path

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m recipes.tinker_server")
    parser.add_argument("model", nargs="?", default="builtin:tiny", help="a checkpoint directory of Qwen3 or Llama")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--folder", type=Path, help="where what it keeps goes; by default a new one")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="tinker-server-"))
    model = Path(resolve_model_path(arguments.model)).resolve()
    with TinkerServer(model, folder.resolve(), port=arguments.port) as server, suppress(KeyboardInterrupt):
        print(f"{server.url} serves {model}; its log: {server.log}", flush=True)
        threading.Event().wait()
