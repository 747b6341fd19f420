"""The process around a command: which signals end it, with which exit code, and that nothing keeps it alive then.

Exit codes: 0 the run was completed; 1 it failed or stopped itself; 2 the command line cannot work; 128 + the signal
where Ctrl-C (130), SIGTERM (143) or SIGHUP (129) ended it.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from typing import NoReturn

from ajet.errors import UserInterrupt

LEAVING_S = 5.0
"""For threads that are not daemons, and then for such processes, once all work is done."""
TERMINATING_S = 2.0
"""For a process that was asked to terminate, before it is killed."""
EXIT_FUNCTIONS_S = 60.0
"""For all that Python still calls at its end (`atexit`)."""


def interrupt(signum: int) -> None:
    """What an ending signal does where nothing has to be saved.

    Raises:
        UserInterrupt: always; no other code raises it.
    """
    raise UserInterrupt(signum)


def run_as_process(main: Callable[[], int]) -> NoReturn:
    """Run a command and end the process with its exit code, whatever a user's program has left running.

    Threads are given `LEAVING_S` and left where they are. Processes of `multiprocessing` are given as long and then
    ended, with a word: Python would wait for them for good, and nothing else knows of them. Those of `subprocess`
    keep running.
    """
    code = 1
    try:
        code = main()
    finally:
        _flush_output()
        _end_without(code)
    sys.exit(code)


def _flush_output() -> None:
    """What is still to be written, if anything reads it: `--help | head` is not a mistake."""
    if sys.stdout is None or sys.stdout.closed:
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would try once more at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end_without(code: int) -> None:
    """End the process even if Python waits for a thread, a process or an exit function that never ends."""
    threads_ended = threading.Event()

    def after_threads() -> None:
        # Exit functions run once Python has waited for all threads, the last one first: this comes before that of
        # `multiprocessing`, which waits for processes, and after pools have ended theirs.
        threads_ended.set()
        _end_processes([child for child in active_children() if not child.daemon], LEAVING_S)

    def watch() -> None:
        try:
            if threads_ended.wait(LEAVING_S):
                time.sleep(LEAVING_S + TERMINATING_S + EXIT_FUNCTIONS_S)
            else:
                _end_processes(active_children(), 0.0)
            _flush_output()
        finally:
            os._exit(code)

    atexit.register(after_threads)
    threading.Thread(target=watch, name="ajet-leaving", daemon=True).start()


def _end_processes(children: Sequence[BaseProcess], patience_s: float) -> None:
    """Wait for processes together, then terminate those that keep running, and kill the ones that do not heed it."""
    _join(children, patience_s)
    left = [child for child in children if child.is_alive()]
    if not left:
        return
    named = ", ".join(f"{child.name} (pid {child.pid})" for child in left)
    with suppress(OSError, ValueError, AttributeError):  # a program may have closed or taken away what we say it on
        print(f"warning: processes that the program left running are terminated: {named}", file=sys.stderr, flush=True)
    for child in left:
        child.terminate()
    _join(left, TERMINATING_S)
    for child in left:
        child.kill()


def _join(children: Sequence[BaseProcess], patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    for child in children:
        child.join(max(0.0, deadline - time.monotonic()))
