"""A Tinker server on this machine's CPU as a process of ours: started, awaited, ended.

In: a model's directory, a folder for its database, checkpoints and log. Out: a URL that answers. What JAX compiles is
kept beside the environment, so that the next server does not compile it again.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import httpx

ENVIRONMENT = Path(sys.prefix) / "tinker-server"
"""Where `make setup-tinker` puts SkyRL."""
COMPILED = Path(sys.prefix) / "tinker-server-compiled"
BACKEND: Mapping[str, int] = {
    "max_lora_adapters": 8,
    "max_lora_rank": 8,
    "sample_max_num_sequences": 16,
    "train_micro_batch_size": 16,
}
"""How much it holds at once. Batches of other sizes are padded to these, so that less is compiled."""
POLL_S = 0.2
CLOSING_S = 10.0
SHOWN_LINES = 20


class TinkerServer:
    """One server with the model of one directory; it ends with this process, however that ends."""

    def __init__(
        self,
        model: Path,
        folder: Path,
        *,
        port: int | None = None,
        key: str | None = None,
        backend: Mapping[str, int] | None = None,
        session_timeout_s: int = 300,
        timeout_s: float = 240.0,
    ) -> None:
        """Start it, without waiting for it.

        Args:
            model: a checkpoint directory in Hugging Face format; Qwen3 or Llama.
            folder: where its database, its checkpoints and its log go; one that it had before brings them back.
            port: where it listens on 127.0.0.1; by default one that is free.
            key: the only one that it takes; by default it takes any.
            backend: what differs from `BACKEND`.
            session_timeout_s: how long it keeps a client's models without a heartbeat of the client.
            timeout_s: for `wait`.
        """
        assert ENVIRONMENT.is_dir(), f"no {ENVIRONMENT}: make setup-tinker"
        folder.mkdir(parents=True, exist_ok=True)
        self.port = port or _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "server.log"
        self._timeout_s = timeout_s
        command = [
            *(sys.executable, "-P", str(Path(__file__).with_name("skyrl_server.py"))),
            *(
                "--base-model",
                str(model),
                "--backend",
                "jax",
                "--backend-config",
                json.dumps({**BACKEND, **(backend or {})}),
            ),
            *("--checkpoints-base", str(folder / "checkpoints"), "--database-url", f"sqlite:///{folder}/tinker.db"),
            *("--session-timeout-sec", str(session_timeout_s), "--session-cleanup-interval-sec", "5"),
            *("--port", str(self.port)),
        ]
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | _variables() | ({} if key is None else {"TINKER_SERVER_KEY": key}),
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        """Itself, once it answers."""
        try:
            self.wait()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        """End it."""
        self.close()

    def wait(self) -> None:
        """Until it answers. Its engine may still load the model: requests wait for it.

        Raises:
            RuntimeError: it ended, or does not answer in time; the end of its log.
        """
        deadline = time.monotonic() + self._timeout_s
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                end = "\n".join(self.log.read_text(errors="replace").splitlines()[-SHOWN_LINES:])
                raise RuntimeError(f"the Tinker server does not answer:\n{end}")
            time.sleep(POLL_S)

    def kill(self) -> None:
        """End it and its engine at once, as a machine that goes down does."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """End it and its engine."""
        try:
            self._end(signal.SIGTERM)
        finally:
            self._end(signal.SIGKILL)
            assert self._process.stdin is not None
            self._process.stdin.close()

    def _end(self, signum: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, signum)
            self._process.wait(CLOSING_S)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/", timeout=5, trust_env=False).status_code < 500
        except httpx.HTTPError:
            return False


def _variables() -> dict[str, str]:
    """For JAX to stay on the CPU and to keep what it compiled."""
    return {
        "PYTHONPATH": str(ENVIRONMENT),
        "JAX_PLATFORMS": "cpu",
        "HF_HUB_OFFLINE": "1",
        "JAX_COMPILATION_CACHE_DIR": str(COMPILED),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
