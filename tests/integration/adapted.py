"""A tiny model with adapters, and what its engines must keep to, whichever engine they are in."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from tests.engine_contract import complete, gather, make_crowd
from tests.integration.tiny_model import build_tiny_model

from ajet.engine.base import Adapters, Engine, SamplingRequest
from ajet.records import Completion
from ajet.train.lora import adapter_state, with_lora

ADAPTERS = Adapters(rank=4, alpha=8, targets=("q_proj", "v_proj", "self_attn.o_proj", "down_proj"))
TOLERANCE = 1e-4


def adapted_model(seed: int) -> PeftModel:
    """The tiny model with adapters that say something; untrained ones add nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        rank, alpha, targets = ADAPTERS.rank, ADAPTERS.alpha, ADAPTERS.targets
        model = with_lora(build_tiny_model(0), rank=rank, alpha=alpha, targets=targets)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.2)
    return model


def logprobs(model: torch.nn.Module, request: SamplingRequest, completion: Completion) -> list[float]:
    """Of the sampled ids, under a model as transformers and peft compute it."""
    ids, num_prompt = [*request.prompt_ids, *completion.token_ids], len(request.prompt_ids)
    with torch.no_grad():
        logits_TV = model(torch.tensor([ids])).logits[0]
    logp_TV = torch.log_softmax(logits_TV[num_prompt - 1 : -1] / request.temperature, dim=-1)
    found: list[float] = logp_TV.gather(1, torch.tensor(completion.token_ids)[:, None])[:, 0].tolist()
    return found


def gap(model: torch.nn.Module, requests: Sequence[SamplingRequest], completions: Sequence[Completion]) -> float:
    """The largest difference of log-probabilities between engine and trainer."""
    pairs = [
        (logprobs(model, request, completion), completion.logprobs)
        for request, completion in zip(requests, completions, strict=True)
    ]
    return max(abs(a - b) for expected, got in pairs for a, b in zip(expected, got, strict=True))


class AdapterContract:
    """What holds for every engine that takes adapters. `engine`: one that was built for `ADAPTERS`; `plain`: one of the
    same starting model, built for whole weights, that nobody updates."""

    def test_before_any_update_the_policy_is_the_starting_model(self, engine: Engine) -> None:
        crowd = make_crowd(8)
        completions = complete(engine, *crowd)
        assert gap(build_tiny_model(0), crowd, completions) < TOLERANCE
        assert {c.policy_version for c in completions} == {0}

    def test_after_each_update_what_is_sampled_is_the_trainers_policy(self, engine: Engine) -> None:
        crowd = make_crowd(12)
        for version in (1, 2, 3):
            model = adapted_model(version)
            engine.update_weights(adapter_state(model), version)
            completions = complete(engine, *crowd)
            assert {c.policy_version for c in completions} == {version}
            assert gap(model, crowd, completions) < TOLERANCE
            assert gap(adapted_model(version + 1), crowd, completions) > 0.1

    def test_the_starting_model_answers_from_the_same_engine_as_from_one_of_its_own(
        self, engine: Engine, plain: Engine
    ) -> None:
        model = adapted_model(5)
        engine.update_weights(adapter_state(model), 5)
        crowd = make_crowd(20)
        of_start = [replace(request, by_starting_model=True) for request in crowd]

        async def both() -> list[Completion]:
            """Each prompt by both, in one batch."""
            mixed = [request for pair in zip(crowd, of_start, strict=True) for request in pair]
            return await gather(engine, mixed)

        completions = asyncio.run(both())
        by_policy, by_start = completions[::2], completions[1::2]
        assert gap(model, crowd, by_policy) < TOLERANCE
        expected = complete(plain, *crowd)
        assert [c.token_ids for c in by_start] == [c.token_ids for c in expected]
        for got, wanted in zip(by_start, expected, strict=True):
            assert got.logprobs == pytest.approx(wanted.logprobs, abs=TOLERANCE)
        assert {c.policy_version for c in by_start} == {0} and {c.policy_version for c in by_policy} == {5}
