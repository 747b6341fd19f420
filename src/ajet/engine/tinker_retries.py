"""Answers after which Tinker's client asks again, as long as anyone waits: it tells of them nowhere but in its log.

In: the client's log records. Out: the latest of them that no good answer followed, for the sentence of a wait that ends
without one. Nothing of the log is written anywhere: it holds requests whole, and headers.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from typing_extensions import override

LOGGER = "tinker"
ANSWERED = "HTTP Response:"
"""How the record of an answer begins; its arguments are method, URL, status, the status in words, and headers."""
PENDING = 408
"""The answer to a question for a result that is not there yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetriedAnswer:
    """An answer that made the client ask again."""

    status: int
    words: str
    at: float
    """By `time.monotonic`."""


class RetriedAnswers(logging.Handler):
    """Listens to the client's log, whose records go nowhere else."""

    def __init__(self) -> None:
        super().__init__()
        self._open: dict[str, RetriedAnswer] = {}
        logger = logging.getLogger(LOGGER)
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        logger.addHandler(self)

    @override
    def emit(self, record: logging.LogRecord) -> None:
        """Note an answer: behind a good one those of its URL are over."""
        if not isinstance(record.args, tuple) or len(record.args) < 4 or not str(record.msg).startswith(ANSWERED):
            return
        _, url, status, words, *_ = record.args
        place = str(url).partition("?")[0]
        if not isinstance(status, int) or status < 400 or status == PENDING:
            self._open.pop(place, None)
        elif status in (402, 409, 429) or status >= 500:
            self._open[place] = RetriedAnswer(status=status, words=f"{status} {words}".strip(), at=time.monotonic())

    def latest(self, base_url: str, since: float) -> RetriedAnswer | None:
        """The newest one of a server that is not over.

        Args:
            base_url: the beginning of its URLs.
            since: older ones are none of this wait's, by `time.monotonic`.
        """
        met = [each for url, each in self._open.copy().items() if url.startswith(base_url) and each.at >= since]
        return max(met, key=lambda each: each.at, default=None)

    def leave(self) -> None:
        """Listen no more."""
        logger = logging.getLogger(LOGGER)
        logger.removeHandler(self)
        if not any(isinstance(handler, RetriedAnswers) for handler in logger.handlers):
            # What nobody reads is not made; it is not passed on either, for it holds requests whole.
            logger.setLevel(logging.CRITICAL + 1)
