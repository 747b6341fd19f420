"""What batching engines share, on an engine whose model counts to each request's budget."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from tests.engine_contract import complete, make_request

from ajet.engine.base import SamplingRequest
from ajet.engine.stepped import SteppedEngine
from ajet.errors import EngineError
from ajet.records import Completion
from ajet.rollout.event_loop import RolloutLoop
from ajet.rollout.runtime import RolloutRuntime
from ajet.rollout.watchdog import BlockedError


class CountingEngine(SteppedEngine):
    """One id a step for each request; fails at step `fail_at` with `failure`. Keeps batch sizes and thread counts."""

    failure: BaseException = RuntimeError("out of memory")

    def __init__(self, fail_at: int | None = None, num_threads: int | None = None) -> None:
        super().__init__(max_context=100, num_threads=num_threads)
        self.fail_at = fail_at
        self.remaining: dict[int, int] = {}
        self.sampled: dict[int, int] = {}
        self.batch_sizes: list[int] = []
        self.thread_counts: set[int] = set()

    def _add(self, key: int, request: SamplingRequest, max_tokens: int) -> None:
        self.remaining[key] = max_tokens
        self.sampled[key] = max_tokens

    def _abort(self, key: int) -> None:
        del self.remaining[key]

    def _load(self, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        self.weights = dict(weights)

    def _step(self) -> list[tuple[int, Completion]]:
        self.thread_counts.add(torch.get_num_threads())
        if len(self.batch_sizes) == self.fail_at:
            raise self.failure
        self.batch_sizes.append(len(self.remaining))
        self.remaining = {key: remaining - 1 for key, remaining in self.remaining.items()}
        finished = [key for key, remaining in self.remaining.items() if remaining == 0]
        for key in finished:
            del self.remaining[key]
        return [(key, self.completion(self.sampled[key])) for key in finished]

    def completion(self, length: int) -> Completion:
        ids = tuple(range(length))
        return Completion(token_ids=ids, logprobs=(0.0,) * length, finish_reason="length", policy_version=0)


def test_agents_that_need_some_turns_of_the_loop_still_share_a_batch() -> None:
    engine = CountingEngine()

    async def agent(turns: int) -> None:
        for _ in range(3):
            for _ in range(turns):
                await asyncio.sleep(0)
            await engine.generate(make_request(max_tokens=2))

    async def program() -> None:
        await asyncio.gather(*(agent(turns) for turns in range(6)))

    asyncio.run(program())
    assert engine.batch_sizes == [6] * 6


class CountingSelector(selectors.SelectSelector):
    """Counts a loop's turns."""

    num_turns = 0

    def select(self, timeout: float | None = None) -> Any:
        self.num_turns += 1
        return super().select(timeout)


def test_no_turn_passes_idly_while_nobody_can_ask() -> None:
    engine, selector = CountingEngine(), CountingSelector()
    loop = asyncio.SelectorEventLoop(selector)
    loop.run_until_complete(engine.generate(make_request(max_tokens=50)))
    assert len(engine.batch_sizes) == 50
    assert selector.num_turns <= 50 + 5
    loop.close()


def test_an_agent_that_sleeps_for_a_moment_is_waited_for() -> None:
    engine, loop = CountingEngine(), RolloutLoop()

    async def agent(moments: int) -> None:
        for _ in range(3):
            for _ in range(moments):
                await asyncio.sleep(0.001)
            await engine.generate(make_request(max_tokens=2))

    async def program() -> None:
        await asyncio.gather(*(agent(moments) for moments in range(3)))

    loop.run_until_complete(program())
    assert engine.batch_sizes == [3] * 6
    loop.close()


def test_nothing_is_stepped_after_the_last_request() -> None:
    engine = CountingEngine()

    async def program() -> None:
        await engine.generate(make_request(max_tokens=4))
        await asyncio.sleep(0.01)

    asyncio.run(program())
    assert engine.batch_sizes == [1] * 4


def test_one_engine_serves_event_loops_one_after_the_other() -> None:
    engine = CountingEngine()
    assert len(complete(engine, make_request(max_tokens=2))) == 1
    assert len(complete(engine, make_request(max_tokens=2))) == 1


@pytest.mark.parametrize("failure", [RuntimeError("out of memory"), BlockedError("out of memory")])
def test_a_failing_step_fails_every_waiting_request_and_every_later_one(failure: BaseException) -> None:
    engine = CountingEngine(fail_at=2)
    engine.failure = failure

    async def program() -> list[Completion | BaseException]:
        calls = [engine.generate(make_request(max_tokens=max_tokens)) for max_tokens in (1, 5, 6)]
        return await asyncio.gather(*calls, return_exceptions=True)

    short, *failed = asyncio.run(program())
    assert isinstance(short, Completion)
    for error in failed:
        assert isinstance(error, EngineError)
        assert f"{type(failure).__name__}: out of memory" in str(error)
    with pytest.raises(EngineError, match="out of memory"):
        complete(engine, make_request())


def test_closing_an_engine_fails_whoever_waits() -> None:
    engine = CountingEngine()

    async def program() -> None:
        waiting = asyncio.create_task(engine.generate(make_request()))
        await asyncio.sleep(0)
        engine.close()
        with pytest.raises(EngineError, match="closed"):
            await waiting

    asyncio.run(program())


def test_interrupting_a_program_aborts_its_requests_and_the_engine_stays_usable() -> None:
    engine = CountingEngine()

    async def program() -> None:
        calls = [asyncio.create_task(engine.generate(make_request(max_tokens=90))) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert calls
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(program())
    assert engine.remaining == {}
    assert len(complete(engine, make_request(max_tokens=2))[0].token_ids) == 2


def test_stepping_uses_its_own_thread_count_and_gives_the_callers_back() -> None:
    own = torch.get_num_threads()
    engine = CountingEngine(num_threads=own + 1)
    complete(engine, make_request())
    assert engine.thread_counts == {own + 1}
    assert torch.get_num_threads() == own


class SlowEngine(CountingEngine):
    """Its first step takes so many seconds."""

    seconds = 1.2

    def _step(self) -> list[tuple[int, Completion]]:
        if not self.batch_sizes:
            time.sleep(self.seconds)
        return super()._step()


def test_a_step_that_takes_longer_than_a_program_may_is_waited_for_and_blamed_on_nobody() -> None:
    """It would end the run, and tell the user to write `execute` otherwise, where a kernel was being compiled."""
    said: list[str] = []
    with RolloutRuntime(patience_s=0.1, say=said.append) as runtime:
        completion = runtime.run(SlowEngine().generate(make_request(max_tokens=2)))
    assert len(completion.token_ids) == 2
    assert len(said) == 1 and said[0].startswith("warning: the engine has held up all episodes for 0.1 s at ")


def test_a_step_that_never_ends_is_ended_at_last_and_is_the_engines_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ajet.rollout.watchdog.ENGINES_SHARE", 2)
    monkeypatch.setattr(SlowEngine, "seconds", 1000)
    said: list[str] = []
    with (
        RolloutRuntime(patience_s=0.1, say=said.append) as runtime,
        pytest.raises(EngineError, match=r"the sampling engine failed \(BlockedError: .* for too long\)"),
    ):
        runtime.run(SlowEngine().generate(make_request(max_tokens=2)))
    assert [line.rpartition("; ")[2] for line in said][-1] == "it is ended" and "execute" not in "".join(said)
