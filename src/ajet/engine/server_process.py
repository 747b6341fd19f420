"""vLLM's own server as a process of ours: started, awaited, ended, and its last words where it does not live.

In: fields of vLLM's `EngineArgs`. Out: a URL that answers. Its output goes to a file, of which the end is told where it
fails. Left out: what is asked of it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from ajet.errors import EngineError

POLL_S = 0.2
CLOSING_S = 15
"""For a server to end by itself."""
TOLD_LINES = 3
LAUNCHERS_NAMES = ("RANK", "WORLD_SIZE", "LOCAL_", "GROUP_", "ROLE_", "MASTER_", "TORCHELASTIC_", "ACCELERATE_")
SHARED_MEMORY = Path("/dev/shm")


def command_line(settings: Mapping[str, Any]) -> list[str]:
    """Fields of `EngineArgs` as vLLM's command line takes them."""
    words = []
    for name, value in settings.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        elif isinstance(value, list):
            words += [f"--{option}", *map(str, value)]
        elif value is not None:
            words += [f"--{option}", str(value)]
    return words


class ServerProcess:
    """One server on this machine; it ends with this process, however that ends."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        handover: Path,
        log: Path,
        environment: Mapping[str, str],
        timeout_s: float,
    ) -> None:
        """Start it, without waiting for it.

        Args:
            settings: of vLLM.
            handover: the folder that weights are handed over in; the server removes it where this process is killed.
            log: where its output goes, at its end.
            environment: variables beside this process's own.
            timeout_s: for it to answer, from now.
        """
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s
        command = [
            *(sys.executable, "-m", "ajet.engine.vllm_serving", str(handover)),
            *("--host", "127.0.0.1", "--port", str(self.port)),
            *command_line(settings),
        ]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_without_launcher(os.environ) | dict(environment),
                start_new_session=True,  # Ctrl-C is for the trainer, which ends it when it is done
            )

    def wait(self) -> None:
        """Until it answers; errors as `is_ready`."""
        while not self.is_ready():
            time.sleep(POLL_S)

    def is_ready(self) -> bool:
        """Whether it answers yet.

        Raises:
            EngineError: it ended, or did not answer in time; its last lines.
        """
        if not self.is_running:
            raise EngineError(f"vLLM's server ended with exit code {self._process.returncode}: {self.last_words()}")
        if answers(self.url):
            return True
        if time.monotonic() > self._deadline:
            raise EngineError(
                f"vLLM's server did not answer within engine.startup_timeout_s={self._timeout_s:g}: {self.last_words()}"
            )
        return False

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process.poll() is None

    def last_words(self) -> str:
        """The end of what it said, and where all of it is."""
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return f"{' | '.join(lines[-TOLD_LINES:]) or 'it said nothing'} (all of it: {self.log})"

    def close(self) -> None:
        """End it and its workers."""
        group = self._process.pid
        for signum, patience_s in ((signal.SIGTERM, CLOSING_S), (signal.SIGKILL, None)):
            try:
                os.killpg(group, signum)
                self._process.wait(patience_s)
            except subprocess.TimeoutExpired:
                continue
            except ProcessLookupError:
                break
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()


def _without_launcher(environment: Mapping[str, str]) -> dict[str, str]:
    """What a launcher told this process of its run is nothing to a server: torch would join the run by it."""
    return {name: value for name, value in environment.items() if not name.startswith(LAUNCHERS_NAMES)}


def answers(url: str) -> bool:
    """Whether a server is there and its engine works."""
    try:
        return httpx.get(f"{url}/health", timeout=5, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def memory_folder() -> Path | None:
    """A file system in memory, where the system has one that is more than a token."""
    roomy = SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).free > 2**30
    return SHARED_MEMORY if roomy else None
