"""Which policy vLLM's servers sample from, and which earlier ones they may still need.

In: policies that have reached the servers, requests as they begin and end. Out: the policy of a new request, and the
removal of what no server reads any more. Left out: how a policy gets there (`ajet.engine.handover`).
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager

from ajet.engine.handover import Handover, Policy

POLL_S = 0.05


class PoliciesInUse:
    """The policies of an engine's servers; requests may come from any thread."""

    def __init__(self, handover: Handover) -> None:
        """`handover`: how they get there, and so how many earlier ones are kept."""
        self.newest = Policy()
        """What new requests are sampled from."""
        self._handover = handover
        self._past: deque[Policy] = deque()
        """What it was before, where servers may still read that."""
        self._num_asking: Counter[str | None] = Counter()
        """Requests under way, by adapter."""

    @contextmanager
    def asked(self, *, by_starting_model: bool) -> Iterator[Policy]:
        """The policy that a request is sampled from, around that request."""
        policy = Policy() if by_starting_model else self.newest
        self._num_asking[policy.adapter] += 1
        try:
            yield policy
        finally:
            self._num_asking[policy.adapter] -= 1

    def take(self, new: Policy) -> None:
        """Let new requests be sampled from it, and remove what no server reads any more."""
        self._past.append(self.newest)
        self.newest = new
        while len(self._past) > self._handover.num_kept:
            past = self._past.popleft()
            if past.path != new.path:
                self._handover.remove(past)

    def await_older(self) -> None:
        """Until no request runs with adapters that are older than the newest: they have no place in the servers."""
        keep = (None, self.newest.adapter)
        while any(num for adapter, num in list(self._num_asking.items()) if adapter not in keep):
            time.sleep(POLL_S)
