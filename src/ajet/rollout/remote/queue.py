"""Episodes between the runner, which wants them played, and workers, who ask for some.

In: `offer`, on an episode's event loop. Out: `claim`, on the HTTP server's. A worker that claimed an episode has it for
as long as it says something at least every `lease_s`; what it says is put to the episode, which answers. Each episode
is offered once: where its worker is lost, the runner plays it again as a new one.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from ajet.errors import AjetError


class EpisodeGoneError(AjetError):
    """An episode that is over, or that another worker has: what was sent for it is not taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRequest:
    """What a worker says of its episode."""

    verb: str
    """`claim`, `renew`, or one of those that `WorkersWorkflow` answers."""
    body: Mapping[str, Any]
    answer: Future[Any] = field(default_factory=Future)

    def say(self, answer: Any = None) -> None:
        """Answer, unless nobody waits for it any more."""
        with suppress(InvalidStateError):
            self.answer.set_result(answer)

    def fail(self, error: Exception) -> None:
        """Likewise, by an exception that is raised where the answer is awaited."""
        with suppress(InvalidStateError):
            self.answer.set_exception(error)


class RemoteEpisode:
    """One attempt at an episode, from its offer to its end. Made on the loop that plays it."""

    def __init__(self) -> None:
        """Nobody has it yet."""
        self.id = secrets.token_hex(16)
        """Known to the one who claimed it alone."""
        self._loop = asyncio.get_running_loop()
        self._inbox: asyncio.Queue[WorkerRequest] = asyncio.Queue()
        self._lock = Lock()
        self._unanswered: dict[int, WorkerRequest] = {}
        self._is_over = False

    def ask(self, verb: str, body: Mapping[str, Any]) -> Future[Any]:
        """Put a request to the episode, from any thread. The answer is whatever answers the verb, or its exception.

        Raises:
            EpisodeGoneError: the episode is over; the answer may be that, too.
        """
        request = WorkerRequest(verb=verb, body=body)
        with self._lock:
            if self._is_over:
                raise _gone()
            self._unanswered[id(request)] = request
            self._loop.call_soon_threadsafe(self._inbox.put_nowait, request)
        return request.answer

    async def next_request(self, within_s: float | None) -> WorkerRequest:
        """The next that a worker says.

        Raises:
            TimeoutError: nothing in that time.
        """
        async with asyncio.timeout(within_s):
            request = await self._inbox.get()
        with self._lock:
            self._unanswered.pop(id(request))
        return request

    def end(self) -> None:
        """Nothing is taken any more; whoever still waits is told so."""
        with self._lock:
            self._is_over = True
            left = list(self._unanswered.values())
            self._unanswered.clear()
        for request in left:
            request.fail(_gone())


def _gone() -> EpisodeGoneError:
    return EpisodeGoneError(
        "This episode is over: it took longer than rollout.timeout_s, its worker was not heard of for lease_s, the run "
        "has ended, or its result is there already."
    )


class EpisodeQueue:
    """Offers and claims, in the order in which they come. Safe on any thread."""

    def __init__(self) -> None:
        """Nothing is offered yet."""
        self._lock = Lock()
        self._offered: deque[RemoteEpisode] = deque()
        self._claims: deque[Future[RemoteEpisode]] = deque()
        self._running: dict[str, RemoteEpisode] = {}
        self._heard_at = time.monotonic()
        """When a worker last asked for an episode, or it was last said that none does."""

    def offer(self, episode: RemoteEpisode) -> None:
        """To the claim that waits longest, else to the next."""
        with self._lock:
            self._running[episode.id] = episode
            while self._claims:
                claim = self._claims.popleft()
                if claim.set_running_or_notify_cancel():  # else who claimed has stopped waiting
                    claim.set_result(episode)
                    return
            self._offered.append(episode)

    def claim(self) -> Future[RemoteEpisode]:
        """An episode, as soon as there is one; to be cancelled by who stops waiting."""
        claim: Future[RemoteEpisode] = Future()
        with self._lock:
            self._heard_at = time.monotonic()
            if self._offered:
                claim.set_result(self._offered.popleft())
            else:
                self._claims = deque(waiting for waiting in self._claims if not waiting.cancelled())
                self._claims.append(claim)
        return claim

    def take_back(self, claim: Future[RemoteEpisode]) -> None:
        """Of who has gone away: an episode that it has got meanwhile is for the next."""
        if not claim.cancel():
            self.offer(claim.result())

    def warn_if_idle(self, idle_s: float) -> None:
        """Say so where no worker has asked for an episode for so long; once in that time."""
        with self._lock:
            now = time.monotonic()
            is_idle = now - self._heard_at >= idle_s
            if is_idle:
                self._heard_at = now
        if is_idle:
            print(
                f"warning: episodes wait, and no worker has asked for one in {idle_s:g} s", file=sys.stderr, flush=True
            )

    def withdraw(self, episode: RemoteEpisode) -> None:
        """It is over, however it ended."""
        with self._lock:
            self._running.pop(episode.id, None)
            if episode in self._offered:
                self._offered.remove(episode)
        episode.end()

    def running(self, episode_id: str) -> RemoteEpisode:
        """By its id.

        Raises:
            EpisodeGoneError: there is none.
        """
        with self._lock:
            episode = self._running.get(episode_id)
        if episode is None:
            raise _gone()
        return episode
