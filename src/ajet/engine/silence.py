"""For how long a server has answered none of those who wait for it, and for how long it has been at other work.

In: when a wait or the work begins and how it ends. Out: seconds. An episode that is given up waits no more, and its
next attempt waits again: the server's silence is that of both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock


class Silence:
    """Of one server, told by all who wait for it. While nobody waits it does not grow."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._clock = clock
        self._num_waiting = 0
        self._since = 0.0
        """From when on somebody has waited without a break, or the last answer if that was later."""
        self._before_s = 0.0
        """Of earlier waits, none of which had an answer."""

    def begin(self) -> None:
        """Somebody waits."""
        if not self._num_waiting:
            self._since = self._clock()
        self._num_waiting += 1

    def end(self) -> None:
        """Somebody waits no longer."""
        self._num_waiting -= 1
        if not self._num_waiting:
            self._before_s += self._clock() - self._since

    def broken(self) -> None:
        """The server has said something."""
        self._since, self._before_s = self._clock(), 0.0

    @property
    def seconds(self) -> float:
        """Its length so far."""
        return self._before_s + (self._clock() - self._since if self._num_waiting else 0.0)


class OtherWork:
    """Of one server, told by all threads that ask for it; what is asked for at once counts once."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._clock = clock
        self._lock = Lock()
        self._num = 0
        self._since = self._before_s = 0.0

    def begin(self) -> None:
        """Something is asked for."""
        with self._lock:
            if not self._num:
                self._since = self._clock()
            self._num += 1

    def end(self) -> None:
        """It is answered, or not waited for any more."""
        with self._lock:
            self._num -= 1
            if not self._num:
                self._before_s += self._clock() - self._since

    @property
    def is_under_way(self) -> bool:
        """Whether anything is waited for."""
        return self._num > 0

    @property
    def seconds(self) -> float:
        """All of it so far."""
        with self._lock:
            return self._before_s + (self._clock() - self._since if self._num else 0.0)
