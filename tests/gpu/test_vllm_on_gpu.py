"""vLLM in the process on a GPU: the engine's contract, adapters beside the weights, sleep while the policy is trained.

`make gpu` runs these tests; everywhere else they are skipped. None of them has run yet.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from tests.engine_contract import ModelEngineContract, ModelSubject, complete, make_crowd
from tests.integration.adapted import ADAPTERS, adapted_model, gap
from tests.integration.tiny_model import MAX_CONTEXT, build_tiny_model, save_tiny_model

from ajet.engine.base import Adapters
from ajet.engine.vllm import VllmConfig
from ajet.engine.vllm_engine import VllmEngine
from ajet.engine.vllm_server import VllmServerConfig
from ajet.engine.vllm_server_engine import VllmServerEngine
from ajet.train.lora import adapter_state

pytest.importorskip("vllm")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.vllm,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]

# vLLM's kernels for adapters may multiply in TF32.
ADAPTER_TOLERANCE = 1e-2
LEAST_FREED = 0.5
"""Of the engine's share of the GPU."""


def start_engine(model_path: str, *, adapters: Adapters | None = None, sleep_level: int | None = None) -> VllmEngine:
    config = VllmConfig(
        max_concurrency=16, kv_cache_gib=None, block_size=None, gpu_memory_utilization=0.2, sleep_level=sleep_level
    )
    return VllmEngine(config, model_path, max_context=MAX_CONTEXT, adapters=adapters)


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_model(tmp_path_factory.mktemp("tiny_model"))


@pytest.fixture(scope="module")
def subject(model_path: str) -> Iterator[ModelSubject]:
    engine = start_engine(model_path)
    yield ModelSubject(engine, build_tiny_model(0), build_tiny_model(1))
    engine.close()


class TestVllmOnGpu(ModelEngineContract):
    pass


def test_adapters_beside_the_weights_sample_as_the_trainer(model_path: str) -> None:
    engine = start_engine(model_path, adapters=ADAPTERS)
    crowd = make_crowd(12)
    for version in (1, 2):
        engine.update_weights(adapter_state(adapted_model(version)), version)
        assert gap(adapted_model(version), crowd, complete(engine, *crowd)) < ADAPTER_TOLERANCE
    engine.close()


@pytest.mark.parametrize("level", [1, 2])
def test_an_engine_that_slept_samples_from_the_weights_that_woke_it(model_path: str, level: int) -> None:
    engine, model = start_engine(model_path, sleep_level=level), build_tiny_model(1)
    crowd = make_crowd(12)
    complete(engine, *crowd)
    for version in (1, 2):
        awake, total = torch.cuda.mem_get_info()
        engine.sleep()
        assert torch.cuda.mem_get_info()[0] - awake > LEAST_FREED * 0.2 * total
        engine.update_weights(model.named_parameters(), version)
        assert gap(model, crowd, complete(engine, *crowd)) < ADAPTER_TOLERANCE
    engine.close()


def test_adapters_and_the_starting_model_live_through_sleep(model_path: str) -> None:
    engine = start_engine(model_path, adapters=ADAPTERS, sleep_level=1)
    crowd = make_crowd(12)
    for version in (1, 2):
        engine.sleep()
        engine.update_weights(adapter_state(adapted_model(version)), version)
        assert gap(adapted_model(version), crowd, complete(engine, *crowd)) < ADAPTER_TOLERANCE
    engine.close()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="training and a server need a GPU each")
def test_weights_reach_a_server_from_gpu_to_gpu(model_path: str) -> None:
    config = VllmServerConfig(
        max_concurrency=16, kv_cache_gib=None, block_size=None, gpu_memory_utilization=0.2, weight_transfer="nccl"
    )
    engine = VllmServerEngine(config, model_path, max_context=MAX_CONTEXT, device="cuda")
    crowd = make_crowd(12)
    for seed in (1, 2):
        model = build_tiny_model(seed)
        on_gpu = [(name, weight.cuda()) for name, weight in model.named_parameters()]
        engine.update_weights(on_gpu, seed)
        completions = complete(engine, *crowd)
        assert {c.policy_version for c in completions} == {seed}
        assert gap(model, crowd, completions) < ADAPTER_TOLERANCE
    engine.close()
