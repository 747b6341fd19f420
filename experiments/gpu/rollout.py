"""Part `rollout`: sampled tokens a second of ajet's engines, vLLM's against vLLM alone; seconds to publish weights.

vLLM alone is the very same vLLM engine, stepped as its own `LLM.generate` does it: all requests handed over, then steps
until none is left, the same tokens and log-probabilities, without ajet in between.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiments.gpu.measuring import give_back, in_turns, seconds_of
from experiments.gpu.results import Result, Settings, Value
from experiments.gpu.shapes import QWEN3_0_6B, SMALL, Shape, make_model, save_model

from ajet.engine.base import Engine, EngineConfig, EngineNeeds, SamplingRequest
from ajet.engine.transformers import TransformersConfig
from ajet.engine.vllm import VllmConfig
from ajet.engine.vllm_engine import VllmEngine

Row = dict[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Requests that are made at once."""

    num: int
    num_prompt: int
    num_sampled: int
    rounds: int

    def requests(self, vocabulary: int) -> list[SamplingRequest]:
        """Random prompts; nothing stops a reply, so that each has its full length."""
        draw = np.random.default_rng(0)
        return [
            SamplingRequest(
                prompt_ids=tuple(draw.integers(0, vocabulary, self.num_prompt).tolist()),
                max_tokens=self.num_sampled,
                temperature=1.0,
                seed=seed,
            )
            for seed in range(self.num)
        ]


VLLM = Load(num=256, num_prompt=512, num_sampled=256, rounds=3)
TRANSFORMERS = Load(num=64, num_prompt=512, num_sampled=64, rounds=1)
TINY = Load(num=4, num_prompt=8, num_sampled=6, rounds=1)


def measure(settings: Settings) -> Result:
    """vLLM where it starts, transformers in any case."""
    device = torch.device(settings.device)
    shape = SMALL if settings.small else QWEN3_0_6B
    dtype = torch.float32 if settings.small else torch.bfloat16
    rows: list[Row] = []
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        path = save_model(shape, Path(folder), device, dtype=dtype)
        give_back(device)
        config = TransformersConfig()
        load = TINY if settings.small else TRANSFORMERS
        rows.append(_measured(config, path, shape, device, dtype, load))
        give_back(device)
        try:
            load = TINY if settings.small else VLLM
            rows.append(_measured(_vllm_config(device), path, shape, device, dtype, load))
            if device.type == "cuda":
                give_back(device)
                rows.append(_measured(replace(_vllm_config(device), sleep_level=1), path, shape, device, dtype, load))
        except Exception as error:  # the boundary to a library that may be absent or not fit this machine
            notes.append(f"vLLM did not run here: {type(error).__name__}: {str(error)[:500]}")
    return Result(tables={f"Sampling, {shape.name}, {str(dtype).removeprefix('torch.')}": rows}, notes=notes)


def _vllm_config(device: torch.device) -> VllmConfig:
    """As conf/engine has it for the device."""
    if device.type == "cpu":
        return VllmConfig()
    return VllmConfig(
        max_concurrency=256,
        kv_cache_gib=None,
        block_size=None,
        gpu_memory_utilization=0.4,
        tensor_parallel_size=1,
        enforce_eager=False,
    )


def _measured(
    config: EngineConfig, path: str, shape: Shape, device: torch.device, dtype: torch.dtype, load: Load
) -> Row:
    """One engine, from its start to its end."""
    context = 2 * (load.num_prompt + load.num_sampled)
    engines: list[Engine] = []

    def start() -> None:
        needs = EngineNeeds(
            model_path=path,
            max_context=context,
            dtype=str(dtype).removeprefix("torch."),
            device=device.type,
            num_threads=None,
        )
        engines.append(config.build(needs))

    row: Row = {"engine": config.name, "requests": load.num, "start, s": seconds_of(start, device)}
    (engine,) = engines
    requests = load.requests(shape.vocabulary)
    sides: dict[str, Callable[[], None]] = {"ajet": lambda: _by_ajet(engine, requests)}
    if isinstance(engine, VllmEngine):
        sides["vLLM alone"] = lambda: _by_vllm(engine, requests)
    seconds = in_turns(sides, device, rounds=load.rounds)
    num = load.num * load.num_sampled
    row |= {f"{name}, sampled tokens/s": num / value for name, value in seconds.items()}
    if "vLLM alone" in seconds:
        row["ajet / vLLM alone"] = seconds["vLLM alone"] / seconds["ajet"]
    row["update_weights, s"] = _publishing_seconds(engine, shape, device)
    if isinstance(engine, VllmEngine) and isinstance(config, VllmConfig) and config.sleep_level is not None:
        row["sleep, s"] = seconds_of(engine.sleep, device)
        row["waking update_weights, s"] = _publishing_seconds(engine, shape, device, times=1)
    engine.close()
    return row


def _by_ajet(engine: Engine, requests: Sequence[SamplingRequest]) -> None:
    """As episodes ask: a coroutine a request."""
    if isinstance(engine, VllmEngine):
        _forget_prefixes(engine)

    async def all_of_them() -> None:
        await asyncio.gather(*(engine.generate(request) for request in requests))

    asyncio.run(all_of_them())


def _by_vllm(engine: VllmEngine, requests: Sequence[SamplingRequest]) -> None:
    _forget_prefixes(engine)
    for key, request in enumerate(requests):
        engine._add(key, request, request.max_tokens)
    vllm: Any = engine._llm
    finished = 0
    while finished < len(requests):
        finished += sum(output.finished for output in vllm.step())


def _forget_prefixes(engine: VllmEngine) -> None:
    """Else the second side would find the prompts of the first in the cache."""
    assert engine._llm.reset_prefix_cache()


def _publishing_seconds(engine: Engine, shape: Shape, device: torch.device, *, times: int = 3) -> float:
    """Median, of float32 weights that lie on the same device, as the trainer's do."""
    model = make_model(shape, device, seed=1)

    def publish() -> None:
        engine.update_weights(model.named_parameters(), engine.policy_version + 1)

    return statistics.median(seconds_of(publish, device) for _ in range(times))
