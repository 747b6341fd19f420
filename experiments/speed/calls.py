"""A model call through each interface against raw vLLM: the same requests, as many at once, in turns.

In: an interface and how many episodes are under way. Out: time by ajet as a share of vLLM's alone, with what its client
takes and without. vLLM is given the prompts that were sampled from and as many tokens as came of them, one behind the
other within an episode, as a program asks.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from experiments.speed.asking import ask_by_http, ask_by_openai
from experiments.speed.constant import REPLY

from ajet.assemble.trainer import build_trainer
from ajet.config.compose import compose
from ajet.config.saved import save
from ajet.engine.vllm_engine import VllmEngine
from ajet.records import Call, EpisodeGroup
from ajet.rollout.agents.openai_sdk import OpenAIClient
from ajet.rollout.endpoint.endpoint import OpenAIAddress
from ajet.rollout.own_thread import run_on_own_thread
from ajet.train.loop import Trainer

ENTRY = f"{Path(__file__).with_name('asking.py')}->"

PROGRAMS = {"AgentScope": "Asks", "OpenAI SDK": "AsksOpenAI", "HTTP": "AsksHttp"}


@contextmanager
def trainer_of(entry: str, *overrides: str) -> Iterator[Trainer]:
    """A run of which only play is asked for."""
    with tempfile.TemporaryDirectory() as folder:
        asked = [
            "workflow=custom",
            f"workflow.entry='{ENTRY}{entry}'",
            "logger=quiet",
            "eval=none",
            "checkpoint.every=0",
        ]
        config = compose([*asked, *overrides], run_dir=folder)
        save(config, Path(folder) / "config.yaml")
        trainer = build_trainer(config)
        try:
            with trainer.play.runtime:
                yield trainer
        finally:
            trainer.close()


@dataclass(frozen=True, kw_only=True)
class CallCost:
    """Shares of what vLLM alone takes for the same requests: the median round, behind the least and the most."""

    wall: tuple[float, float, float]
    """ajet's wall time over vLLM's, the client's own work included."""
    cpu: tuple[float, float, float]
    """The same by processor time of the process."""
    without_client: tuple[float, float, float] | None
    """By processor time, less what the same clients take from a server that answers a constant; None where there is no
    client."""
    ms_a_call: float
    """Processor time of vLLM alone."""


def call_cost(interface: str, at_once: int, *overrides: str, episodes: int, rounds: int) -> CallCost:
    """Rounds by `ajet`, by the clients alone and by `vLLM` in turns, behind one that is not counted."""
    num_tasks, taken = max(1, episodes // 2), list[dict[str, _Taken]]()
    shape = [f"rollout.num_tasks={num_tasks}", "rollout.group_size=2", f"rollout.concurrency={at_once}"]
    shape.append(f"total_steps={rounds + 1}")
    num_calls = 0
    with trainer_of(PROGRAMS[interface], *shape, *overrides) as trainer, constant_address() as address:
        engine = trainer.engine
        assert isinstance(engine, VllmEngine)
        for step in range(rounds + 1):
            engine._llm.reset_prefix_cache()
            with _timed() as by_ajet:
                groups = trainer.play.training_step(step)
            with _timed() as by_clients:
                if interface in CLIENTS:
                    trainer.play.runtime.run(_ask_constant(CLIENTS[interface], address, 2 * num_tasks, at_once))
            engine._llm.reset_prefix_cache()
            with _timed() as by_vllm:
                replay(engine, groups, at_once)
            num_calls = sum(len(episode.calls) for group in groups for episode in group.episodes)
            taken.append({"ajet": by_ajet, "clients": by_clients, "vLLM": by_vllm})
    counted = taken[1:]
    own = [(one["ajet"].cpu - one["clients"].cpu) / one["vLLM"].cpu for one in counted]
    return CallCost(
        wall=_spread([one["ajet"].wall / one["vLLM"].wall for one in counted]),
        cpu=_spread([one["ajet"].cpu / one["vLLM"].cpu for one in counted]),
        without_client=_spread(own) if interface in CLIENTS else None,
        ms_a_call=1000 * statistics.median(one["vLLM"].cpu for one in counted) / num_calls,
    )


def _spread(values: list[float]) -> tuple[float, float, float]:
    return statistics.median(values), min(values), max(values)


@dataclass
class _Taken:
    """Seconds."""

    wall: float = 0.0
    cpu: float = 0.0


@contextmanager
def _timed() -> Iterator[_Taken]:
    taken, wall, cpu = _Taken(), time.perf_counter(), time.process_time()
    yield taken
    taken.wall, taken.cpu = time.perf_counter() - wall, time.process_time() - cpu


@contextmanager
def constant_address() -> Iterator[OpenAIAddress]:
    """Of a server that always answers alike, in a process of its own."""
    command = [sys.executable, "-m", "experiments.speed.constant"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        try:
            yield OpenAIAddress(base_url=f"http://127.0.0.1:{port}/v1", api_key="sk-" + 70 * "x", model="ajet-asker")
        finally:
            server.terminate()


async def _ask_constant(client: Client, address: OpenAIAddress, num_episodes: int, at_once: int) -> None:
    """The clients' part of as many episodes, on threads where the episodes have them."""
    slots = asyncio.Semaphore(at_once)

    async def episode() -> None:
        async with slots:
            await client(address)

    await asyncio.gather(*(episode() for _ in range(num_episodes)))


async def _http_client(address: OpenAIAddress) -> None:
    await run_on_own_thread(lambda: ask_by_http(address))


async def _openai_client(address: OpenAIAddress) -> None:
    answer = httpx.MockTransport(
        lambda request: httpx.Response(200, headers={"content-type": "application/json"}, content=REPLY)
    )
    http_client = httpx.AsyncClient(transport=answer, trust_env=False, timeout=None)
    await ask_by_openai(
        OpenAIClient(
            model=address.model,
            api_key=address.api_key,
            base_url=address.base_url,
            http_client=http_client,
            max_retries=0,
        )
    )


Client = Callable[[OpenAIAddress], Coroutine[Any, Any, None]]
CLIENTS: dict[str, Client] = {"OpenAI SDK": _openai_client, "HTTP": _http_client}
"""Interfaces whose client is another's, and may be asked without ajet."""


def replay(engine: VllmEngine, groups: list[EpisodeGroup], at_once: int) -> None:
    """The same requests by vLLM's own loop; a call follows when the one before it is done."""
    chains = [[call for call in episode.calls if call.trained] for group in groups for episode in group.episodes]
    waiting, running = list(reversed(chains)), 0
    behind: dict[str, list[Call]] = {}
    while waiting or running:
        while waiting and running < at_once:
            chain = waiting.pop()
            _add(engine, chain[0], behind, chain[1:])
            running += 1
        for output in engine._llm.step():
            if output.finished:
                rest = behind.pop(output.request_id)
                if rest:
                    _add(engine, rest[0], behind, rest[1:])
                else:
                    running -= 1


def _add(engine: VllmEngine, call: Call, behind: dict[str, list[Call]], rest: list[Call]) -> None:
    key = f"raw-{time.monotonic_ns()}-{len(behind)}"
    behind[key] = rest
    settings: dict[str, Any] = {
        "temperature": 1.0,
        "max_tokens": len(call.sampled_ids),
        "ignore_eos": True,
        "logprobs": 0,
        "flat_logprobs": True,
        "detokenize": False,
        "seed": 1,
        "output_kind": engine._final_only,
    }
    engine._llm.add_request(key, engine._tokens_input(list(call.prompt_ids)), engine._sampling_params(**settings))
