"""Calls of the `tinker` client: every answer awaited for a bounded time, every failure one sentence.

In: a call. Out: its result, or an `EngineError`. The client's own waits have no end, and its threads outlive them, so
that calls are made in threads that end with the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import httpx
import tinker

from ajet.engine.silence import OtherWork, Silence
from ajet.engine.tinker_failures import TinkerFailures
from ajet.engine.tinker_requests import TinkerRequests
from ajet.errors import EngineError, EngineLostError

T = TypeVar("T")

CLOSING_S = 5.0
AFTERWARDS_S = 30.0
"""For an answer of a server that was waited for in vain: a last state may still be saved there."""


class TinkerCalls:
    """To one server, by whoever has a client of it."""

    def __init__(self, requests: TinkerRequests, failures: TinkerFailures, *, timeout_s: float) -> None:
        """Nothing is asked yet.

        Args:
            requests: to find out whether a server is there again.
            failures: puts errors in words.
            timeout_s: `tinker.timeout_s`.
        """
        self._requests, self._failures = requests, failures
        self._timeout_s = timeout_s
        self._is_gone = False
        self.other_work = OtherWork()
        """Anything but samples that is waited for."""
        self.silence = Silence()
        """Of the server, towards those who wait for samples; an answer to anything else breaks it, too."""

    def wait(self, submit: Callable[[], Any], doing: str) -> Any:
        """What the client's future comes to, within `tinker.timeout_s`; errors as `called`."""
        return self.called(lambda: result_of(submit(), self._patience_s()), doing)

    def _patience_s(self) -> float:
        """For one answer. Of a server that has left one out little is expected, and the run is to end."""
        return min(AFTERWARDS_S, self._timeout_s) if self._is_gone else self._timeout_s

    def called(self, call: Callable[[], T], doing: str, *, within_s: float | None = None) -> T:
        """The result of a blocking call.

        Args:
            call: made in a thread of its own, which is left behind if it does not end.
            doing: what the server is asked for, for the sentence.
            within_s: seconds, after which the server may still be there; None: `tinker.timeout_s`, or less once
                it was waited for in vain.

        Raises:
            EngineError: it failed, or did not end in time.
        """
        future: Future[T] = Future()
        limit_s = within_s or self._patience_s()
        was_gone = self._is_gone

        def run() -> None:
            try:
                if was_gone:
                    self._requests.reach(CLOSING_S)
                future.set_result(call())
            except BaseException as error:  # it is the waiting thread's
                future.set_exception(error)

        threading.Thread(target=run, name="ajet-tinker", daemon=True).start()
        self.other_work.begin()
        try:
            result = future.result(limit_s)
        except Exception as error:  # the boundary to a network and a server, whose errors are of many kinds
            self._is_gone |= within_s is None and isinstance(
                error, TimeoutError | tinker.APIConnectionError | httpx.TransportError
            )
            raise self.failure(error, doing, limit_s) from error
        finally:
            self.other_work.end()
        self.silence.broken()
        return result

    def failure(self, error: Exception, doing: str, within_s: float) -> EngineError:
        """As `TinkerFailures.failure`."""
        return self._failures.failure(error, doing, within_s)

    def lost(self, setting: str, within_s: float) -> EngineLostError:
        """As `TinkerFailures.lost`; the server is asked for little else from now on."""
        self._is_gone = True
        return self._failures.lost(setting, within_s)


def result_of(future: Any, timeout_s: float, *, keep: bool = False) -> Any:
    """What a client's future comes to; one that nobody waits for any more is given up, for the client sends nothing
    else before it, unless it is kept."""
    try:
        return future.result(timeout=timeout_s)
    except TimeoutError:
        if not keep and isinstance(future, tinker.APIFuture):
            future.future().cancel()
        raise
