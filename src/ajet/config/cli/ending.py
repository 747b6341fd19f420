"""The signals by which a user or a system asks a process to end in good order, and who hears of them meanwhile."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def ending_signals(handle: Callable[[int], None]) -> Iterator[None]:
    """Let `handle` hear of Ctrl-C, SIGTERM and SIGHUP, and give them back afterwards.

    Nothing changes off the main thread, where Python lets nobody handle signals; `nohup` is respected. A process that a
    library forks off meanwhile ends as it would have without us, or whoever terminates it would wait for good.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    process = os.getpid()

    def on_signal(signum: int, frame: FrameType | None) -> None:
        if os.getpid() == process:
            handle(signum)
            return
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)

    handled = [s for s in ENDING_SIGNALS if s != signal.SIGHUP or signal.getsignal(s) is not signal.SIG_IGN]
    previous = {signum: signal.signal(signum, on_signal) for signum in handled}
    try:
        yield
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
