"""The vLLM engine keeps the engine contract, on the real vLLM and a tiny Qwen3."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.engine_contract import (
    LOGPROB_TOLERANCE,
    PROMPT,
    ModelEngineContract,
    ModelSubject,
    complete,
    make_crowd,
    make_request,
)
from tests.integration.tiny_model import MAX_CONTEXT, build_tiny_model, save_tiny_model
from tests.model_families import tiny_model

from ajet.engine.checkpoint import load_causal_lm
from ajet.engine.vllm import VllmConfig
from ajet.engine.vllm_engine import VllmEngine
from ajet.errors import EngineError

pytestmark = pytest.mark.vllm


def start_engine(model_path: str, kv_cache_gib: float = 0.1) -> VllmEngine:
    return VllmEngine(
        VllmConfig(max_concurrency=16, kv_cache_gib=kv_cache_gib),
        model_path,
        max_context=MAX_CONTEXT,
        num_threads=1,
        max_batched_tokens=200,  # a crowd's prompts do not fit into one step
    )


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_model(tmp_path_factory.mktemp("tiny_model"))


@pytest.fixture(scope="module")
def subject(model_path: str) -> Iterator[ModelSubject]:
    engine = start_engine(model_path)
    yield ModelSubject(engine, build_tiny_model(0), build_tiny_model(1))
    engine.close()


class TestVllmEngine(ModelEngineContract):
    pass


def test_a_second_engine_keeps_its_own_weights_and_closing_it_leaves_the_first_alone(
    subject: ModelSubject, model_path: str
) -> None:
    crowd = make_crowd(20)
    expected = [c.token_ids for c in complete(subject.engine, *crowd)]
    frozen = start_engine(model_path)
    subject.load(subject.other)
    assert [c.token_ids for c in complete(frozen, *crowd)] == expected
    assert [c.token_ids for c in complete(subject.engine, *crowd)] != expected
    frozen.close()
    subject.load(subject.first)
    assert [c.token_ids for c in complete(subject.engine, *crowd)] == expected


def test_a_cache_too_small_for_all_running_requests_changes_no_completion(
    subject: ModelSubject, model_path: str
) -> None:
    crowd = [make_request(prompt_ids=(*PROMPT * 12, seed), max_tokens=60, seed=seed) for seed in range(16)]
    cramped = start_engine(model_path, kv_cache_gib=0.0007)  # about 700 tokens of the 1,950 that are needed
    ample, scarce = complete(subject.engine, *crowd), complete(cramped, *crowd)
    cramped.close()
    assert [c.token_ids for c in scarce] == [c.token_ids for c in ample]
    for few, many in zip(scarce, ample, strict=True):
        assert few.logprobs == pytest.approx(many.logprobs, abs=LOGPROB_TOLERANCE)


def test_the_callers_thread_count_can_still_be_set(subject: ModelSubject) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    complete(subject.engine, make_request())
    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)


def test_a_temperature_that_vllm_would_change_is_refused(subject: ModelSubject) -> None:
    with pytest.raises(EngineError, match=r"0\.01"):
        complete(subject.engine, make_request(temperature=0.001))


def test_vllm_is_quiet_unless_asked(subject: ModelSubject) -> None:
    assert logging.getLogger("vllm").level >= logging.WARNING


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "settings"), [("mistral", {}), ("gemma2", {"attn_logit_softcapping": 2.0})], ids=["window", "soft cap"]
)
def test_windows_and_soft_caps_are_sampled_with_the_probabilities_that_are_trained(
    family: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    # vLLM's kernels on the CPU take heads of 32 and wider.
    tiny_model(family, head_dim=32, hidden_size=128, **settings).save_pretrained(tmp_path)
    prompt = tuple(3 + 5 * k % 60 for k in range(20))
    config = VllmConfig(max_concurrency=4, kv_cache_gib=0.1)
    engine = VllmEngine(config, str(tmp_path), max_context=128, num_threads=1)
    (completion,) = complete(engine, make_request(prompt_ids=prompt, max_tokens=20, stop_ids=()))
    engine.close()
    ids = (*prompt, *completion.token_ids)
    with torch.no_grad():
        trained = load_causal_lm(str(tmp_path), torch.float32, max_context=128).eval()
        logits = trained(input_ids=torch.tensor([ids])).logits[0, len(prompt) - 1 : -1]
        logp = torch.log_softmax(logits, -1).gather(1, torch.tensor(completion.token_ids)[:, None])[:, 0]
    assert len(completion.token_ids) == 20  # well beyond the window of 6
    # Weights this large round more than the contract's; a token seen in error would change tenths of nats.
    assert completion.logprobs == pytest.approx(logp.tolist(), abs=10 * LOGPROB_TOLERANCE)
