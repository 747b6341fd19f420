"""The process around a command: which signals end it, with which exit code, and that nothing keeps it alive then.

Exit codes: 0 the run was completed; 1 it failed or stopped itself; 2 the command line cannot work; 128 + the signal
where Ctrl-C (130), SIGTERM (143) or SIGHUP (129) ended it.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

from ajet.errors import UserInterrupt

LEAVING_S = 5.0
"""For threads that are no daemons, once all work is done."""


def interrupt(signum: int) -> None:
    """What an ending signal does where nothing has to be saved.

    Raises:
        UserInterrupt: always; no other code raises it.
    """
    raise UserInterrupt(signum)


def run_as_process(main: Callable[[], int]) -> NoReturn:
    """Run a command and end the process with its exit code, whatever an author's program has left running."""
    code = 1
    try:
        code = main()
    finally:
        _flush_output()
        _end_without(code)
    sys.exit(code)


def _flush_output() -> None:
    """What is still to be written, if anybody reads it: `--help | head` is no mistake."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would try once more at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end_without(code: int) -> None:
    """End the process after a while even if Python waits for a thread that never ends."""
    joined = threading.Event()
    atexit.register(joined.set)  # runs once Python has waited for all threads

    def watch() -> None:
        if not joined.wait(LEAVING_S):
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
            os._exit(code)

    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        threading.Thread(target=watch, name="ajet-leaving", daemon=True).start()
