"""vLLM's servers take adapters as they are: requests say theirs, and end with it whatever is published meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engine_contract import complete, gather, make_crowd, make_request
from tests.integration.adapted import ADAPTERS, TOLERANCE, AdapterContract, adapted_model, gap
from tests.integration.test_engine_vllm_server import kill_server
from tests.integration.tiny_model import MAX_CONTEXT, build_tiny_model, save_tiny_model

from ajet.engine.vllm import VllmConfig
from ajet.engine.vllm_engine import VllmEngine
from ajet.engine.vllm_server import VllmServerConfig
from ajet.engine.vllm_server_engine import VllmServerEngine
from ajet.records import Completion
from ajet.train.lora import adapter_state

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_model(tmp_path_factory.mktemp("tiny_model"))


@pytest.fixture(scope="module")
def engine(model_path: str) -> Iterator[VllmServerEngine]:
    config = VllmServerConfig(max_concurrency=16, kv_cache_gib=0.1)
    engine = VllmServerEngine(config, model_path, max_context=MAX_CONTEXT, num_threads=1, adapters=ADAPTERS)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def plain(model_path: str) -> Iterator[VllmEngine]:
    config = VllmConfig(max_concurrency=16, kv_cache_gib=0.1)
    engine = VllmEngine(config, model_path, max_context=MAX_CONTEXT, num_threads=1)
    yield engine
    engine.close()


class TestAdaptersOnServers(AdapterContract):
    pass


def test_requests_end_with_the_adapters_that_they_began_with(engine: VllmServerEngine) -> None:
    old, new = adapted_model(10), adapted_model(11)
    engine.update_weights(adapter_state(old), 10)
    long = [make_request(max_tokens=100, seed=seed) for seed in range(40)]
    crowd = make_crowd(6)

    async def program() -> tuple[list[Completion], list[Completion]]:
        running = [asyncio.create_task(engine.generate(request)) for request in long]
        await asyncio.sleep(0.1)
        await asyncio.to_thread(engine.update_weights, adapter_state(new), 11)
        assert not all(task.done() for task in running)
        completions = await gather(engine, crowd)
        return await asyncio.gather(*running), completions

    began_before, began_after = asyncio.run(program())
    assert {c.policy_version for c in began_before} == {10} and {c.policy_version for c in began_after} == {11}
    assert gap(old, long, began_before) < TOLERANCE
    assert gap(new, crowd, began_after) < TOLERANCE


def test_another_run_on_the_same_server_starts_from_the_checkpoint_and_has_adapters_of_its_own(
    engine: VllmServerEngine, model_path: str, tmp_path: Path
) -> None:
    engine.update_weights(adapter_state(adapted_model(20)), 20)
    config = VllmServerConfig(max_concurrency=16, kv_cache_gib=0.1, urls=list(engine.urls), weights_dir=str(tmp_path))
    other = VllmServerEngine(config, model_path, max_context=MAX_CONTEXT, adapters=ADAPTERS)
    crowd = make_crowd(6)
    assert gap(build_tiny_model(0), crowd, complete(other, *crowd)) < TOLERANCE
    for version in (1, 2):
        other.update_weights(adapter_state(adapted_model(version)), version)
        assert gap(adapted_model(version), crowd, complete(other, *crowd)) < TOLERANCE
    other.close()


def test_a_server_that_dies_is_started_again_with_its_adapters(engine: VllmServerEngine) -> None:
    model = adapted_model(30)
    engine.update_weights(adapter_state(model), 30)
    kill_server(engine.urls[0])
    crowd = make_crowd(6)
    completions = complete(engine, *crowd)
    assert {c.policy_version for c in completions} == {30}
    assert gap(model, crowd, completions) < TOLERANCE
    engine.update_weights(adapter_state(adapted_model(31)), 31)
    assert gap(adapted_model(31), crowd, complete(engine, *crowd)) < TOLERANCE
