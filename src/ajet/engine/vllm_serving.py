"""The process of a vLLM server that ajet starts: vLLM's own, which ends with whoever started it.

In: a folder, vLLM's command line behind it, and a pipe as standard input that nobody writes to. Out: vLLM's HTTP
server. Whatever ends the other process closes the pipe, also a SIGKILL; a server left alone would hold its GPU or its
memory for good, and so would the weights that were handed over in the folder, which is removed.
"""

from __future__ import annotations

import os
import runpy
import shutil
import signal
import sys
import threading
import time

GRACE_S = 5
"""For vLLM to end its own worker processes."""


def _end_with_the_pipe(folder: str) -> None:
    sys.stdin.buffer.read()
    shutil.rmtree(folder, ignore_errors=True)
    os.killpg(0, signal.SIGTERM)
    time.sleep(GRACE_S)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_pipe, args=[sys.argv.pop(1)], daemon=True).start()
    # `vllm serve` asks for the package's metadata under a name that builds for the CPU do not have.
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__", alter_sys=True)
