"""Sampling on a server of the Tinker API.

In: sampling requests. Out: completions with log-probabilities of temperature 1, which is what they are sampled at.
Weights do not pass through here: `ajet.train.tinker_learner` says from which of the server's a completion is sampled,
and requests that run go on with those that they began with.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tinker import types

from ajet.engine.base import SamplingRequest
from ajet.engine.tinker import TinkerEngineConfig
from ajet.engine.tinker_failures import LISTENS_S
from ajet.engine.tinker_service import TinkerService
from ajet.errors import EngineError, EngineLostError
from ajet.records import Completion

if TYPE_CHECKING:
    from torch import Tensor

MOST_SEEDS = 2**31
"""The API's seeds are 32 bits wide."""


class TinkerEngine:
    """Sampling by a server; keeps the contract of `ajet.engine.base` but for weights, which it is not given."""

    def __init__(self, config: TinkerEngineConfig, model_path: str, *, max_context: int) -> None:
        """Connect, and sample from the base model.

        Raises:
            EngineError: the server does not answer, does not take the key, or does not have the model.
        """
        self.max_context = max_context
        self.service = TinkerService(config.service, model_path)
        self._max_concurrency = config.max_concurrency
        self._episode_timeout_s = config.episode_timeout_s
        self._slots: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = (
            weakref.WeakKeyDictionary()
        )
        try:
            self._starting = self.service.base_sampler()
        except EngineError:
            self.service.close()
            raise
        self.policy_version = 0
        self._current = (self._starting, 0)
        """What is sampled from, and its version: one value, for another thread may change it at any moment."""

    async def generate(self, request: SamplingRequest) -> Completion:
        """As `Engine.generate`."""
        if request.temperature != 1:
            raise EngineError(f"a Tinker server samples at temperature 1, not {request.temperature:g}")
        max_tokens = request.budget(self.max_context)
        async with self._slot():
            sampler, version = (self._starting, 0) if request.by_starting_model else self._current
            try:
                future = sampler.sample(
                    prompt=types.ModelInput.from_ints(list(request.prompt_ids)),
                    num_samples=1,
                    sampling_params=types.SamplingParams(
                        max_tokens=max_tokens,
                        seed=request.seed % MOST_SEEDS,
                        temperature=1.0,
                        stop=list(request.stop_ids),  # an empty list: nothing ends it, the model's own end neither
                    ),
                )
                answer = await self._answer(future)
            except EngineLostError:
                raise
            except Exception as error:  # the boundary to a network and a server, whose errors are of many kinds
                raise self.service.failure(error, "sampling", self.service.settings.timeout_s) from error
        if not answer.sequences:
            raise EngineError(f"the Tinker server at {self.service.url} answered without a reply")
        return _completion(answer.sequences[0], request, version)

    async def _answer(self, future: Any) -> Any:
        """What a request comes to, as long as the server answers anybody.

        Raises:
            TimeoutError: this one was not answered in time, that which the server trained meanwhile left out.
            EngineLostError: nobody was for as long, or for as long as an episode has, so that none can be finished.
        """
        timeout_s = self.service.settings.timeout_s
        waiting = asyncio.ensure_future(future)
        work, begun = self.service.other_work, time.monotonic()
        worked_s = work.seconds
        self.service.silence.begin()
        try:
            while not waiting.done():
                await asyncio.wait({waiting}, timeout=min(LISTENS_S, timeout_s))
                if not waiting.done():
                    self._check_silence()
                    if time.monotonic() - begun - (work.seconds - worked_s) >= timeout_s:
                        raise TimeoutError
            self.service.silence.broken()
            return waiting.result()
        finally:
            waiting.cancel()
            self.service.silence.end()

    def _check_silence(self) -> None:
        service, silence = self.service, self.service.silence
        timeout_s, episode_s = service.settings.timeout_s, self._episode_timeout_s
        if service.other_work.is_under_way:
            silence.broken()  # it may do one thing after the other, and whoever asked for the other waits for that
        elif silence.seconds >= timeout_s:
            raise service.lost(f"tinker.timeout_s={timeout_s:g}", timeout_s)
        elif episode_s is not None and silence.seconds >= episode_s:
            raise service.lost(f"rollout.timeout_s={episode_s:g}", episode_s)

    def _slot(self) -> asyncio.Semaphore:
        """Of this event loop: a semaphore belongs to the one that it first waits in."""
        return self._slots.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(self._max_concurrency))

    def sample_from(self, sampler: Any, policy_version: int) -> None:
        """Sample from other weights from now on.

        Args:
            sampler: a client of the server's (`TinkerService.sampler`).
            policy_version: what completions are to say.
        """
        self._current = (sampler, policy_version)
        self.policy_version = policy_version

    def sample_from_start(self) -> None:
        """Sample from the base model from now on."""
        self.sample_from(self._starting, 0)

    def update_weights(self, weights: Iterable[tuple[str, Tensor]], policy_version: int) -> None:
        """Never possible: the API has no way in for weights that are not its own.

        Raises:
            EngineError: always.
        """
        raise EngineError("engine=tinker samples from weights that were trained on its server, and takes no others")

    def close(self) -> None:
        """As `Engine.close`."""
        self.service.close()


def _completion(sequence: Any, request: SamplingRequest, version: int) -> Completion:
    ids, logprobs = sequence.tokens, sequence.logprobs
    if logprobs is None or len(logprobs) != len(ids) or not ids:
        raise EngineError("the Tinker server gave a reply without a log-probability for each of its tokens")
    return Completion(
        token_ids=tuple(ids),
        logprobs=tuple(logprobs),
        finish_reason="stop" if ids[-1] in request.stop_ids else "length",
        policy_version=version,
    )
