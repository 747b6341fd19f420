"""vLLM in the process takes adapters as they are, and samples with the starting model beside them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engine_contract import complete, make_request
from tests.integration.adapted import ADAPTERS, AdapterContract, adapted_model, gap
from tests.integration.tiny_model import MAX_CONTEXT, save_tiny_model

from ajet.engine.base import Adapters
from ajet.engine.vllm import VllmConfig
from ajet.engine.vllm_engine import VllmEngine
from ajet.errors import ConfigError, EngineError
from ajet.train.lora import adapter_state

pytestmark = pytest.mark.vllm


def start_engine(model_path: str, adapters: Adapters | None) -> VllmEngine:
    config = VllmConfig(max_concurrency=16, kv_cache_gib=0.1)
    return VllmEngine(config, model_path, max_context=MAX_CONTEXT, num_threads=1, adapters=adapters)


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_model(tmp_path_factory.mktemp("tiny_model"))


@pytest.fixture(scope="module")
def engine(model_path: str) -> Iterator[VllmEngine]:
    engine = start_engine(model_path, ADAPTERS)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def plain(model_path: str) -> Iterator[VllmEngine]:
    engine = start_engine(model_path, None)
    yield engine
    engine.close()


class TestAdaptersInProcess(AdapterContract):
    pass


def test_an_update_must_bring_all_adapters_and_nothing_else(engine: VllmEngine) -> None:
    model = adapted_model(7)
    engine.update_weights(adapter_state(model), 7)
    weights = list(adapter_state(model))
    with pytest.raises(EngineError, match=r"lacks the adapters \['base_model.model.model.layers.0"):
        engine.update_weights(weights[1:], 8)
    with pytest.raises(EngineError, match="no adapter 'nonsense'"):
        engine.update_weights([("nonsense", weights[0][1])], 8)
    with pytest.raises(EngineError, match="has shape"):
        engine.update_weights([(weights[0][0], weights[0][1][:-1])], 8)
    request = make_request()
    (completion,) = complete(engine, request)
    assert completion.policy_version == 7 and gap(model, [request], [completion]) < 1e-4


def test_a_model_that_vllm_has_no_adapters_for_is_refused_with_what_to_set(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=64, n_positions=MAX_CONTEXT, n_embd=32, n_layer=1, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"GPT2LMHeadModel does not support LoRA yet.?; set engine.lora=merged"):
        start_engine(str(tmp_path), Adapters(rank=2, alpha=4, targets=("c_attn",)))
