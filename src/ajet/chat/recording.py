"""The append-only record of one episode's calls.

Whoever speaks (policy, opponent) appends what its program received; the episode runner reads once at the end. Nothing
is edited or removed: a retry of an episode gets a recorder of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ajet.records import Call, Completion


class EpisodeRecorder:
    """Collects the calls of one attempt at one episode, in the order in which their replies were received."""

    def __init__(self, on_call: Callable[[Call], None] | None = None) -> None:
        """Start empty; `on_call` hears of each call as it is recorded."""
        self._calls: list[Call] = []
        self._on_call = on_call
        self._num_requests = 0
        self._num_refused = 0
        self.context_overflows = 0
        """Requests whose prompt did not fit into the context."""

    @property
    def calls(self) -> tuple[Call, ...]:
        """All calls so far."""
        return tuple(self._calls)

    @property
    def undelivered_calls(self) -> int:
        """Requests whose reply nobody has received: cancelled, hung up on, or under way."""
        return self._num_requests - self._num_refused - len(self._calls)

    @contextmanager
    def request(self) -> Iterator[None]:
        """Around a speaker's work on one request. An error is an answer; a cancellation leaves none."""
        self._num_requests += 1
        try:
            yield
        except Exception:
            self._num_refused += 1
            raise

    def add_sampled(
        self,
        *,
        agent_name: str,
        target_tag: str,
        trained: bool,
        messages: Sequence[Mapping[str, Any]],
        reply: str,
        prompt_ids: tuple[int, ...],
        completion: Completion,
        format_error: str | None,
        unchecked: bool = False,
    ) -> None:
        """Append a call that an engine answered, tokens included."""
        self._add(
            Call(
                index=len(self._calls),
                agent_name=agent_name,
                target_tag=target_tag,
                trained=trained,
                messages=messages,
                reply=reply,
                prompt_ids=prompt_ids,
                sampled_ids=completion.token_ids,
                logprobs=completion.logprobs,
                finish_reason=completion.finish_reason,
                policy_version=completion.policy_version,
                format_error=format_error,
                unchecked=unchecked,
            )
        )

    def add_text(self, *, agent_name: str, target_tag: str, messages: Sequence[Mapping[str, Any]], reply: str) -> None:
        """Append a call that a player without tokens answered (scripted, random, remote)."""
        self._add(
            Call(
                index=len(self._calls),
                agent_name=agent_name,
                target_tag=target_tag,
                trained=False,
                messages=messages,
                reply=reply,
            )
        )

    def _add(self, call: Call) -> None:
        self._calls.append(call)
        if self._on_call is not None:
            self._on_call(call)
