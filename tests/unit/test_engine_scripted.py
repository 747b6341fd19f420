"""The scripted engine keeps the engine contract."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from tests.engine_contract import EngineContract, complete, make_request

from ajet.engine.scripted import ScriptedEngine


class ScriptedSubject:
    def __init__(self) -> None:
        self.vocab_size = 50
        self.engine = ScriptedEngine(self.vocab_size, max_context=128, seed=3)

    def current_weights(self) -> Iterable[tuple[str, Any]]:
        return []

    def reference_logprobs(
        self, prompt_ids: Sequence[int], sampled_ids: Sequence[int], temperature: float
    ) -> list[float]:
        previous_ids = [prompt_ids[-1], *sampled_ids[:-1]]
        return [
            float(self.engine.log_distribution(previous, temperature)[sampled])
            for previous, sampled in zip(previous_ids, sampled_ids, strict=True)
        ]


@pytest.fixture
def subject() -> ScriptedSubject:
    return ScriptedSubject()


class TestScriptedEngine(EngineContract):
    pass


def test_a_distribution_sums_to_one_at_any_temperature() -> None:
    engine = ScriptedEngine(20, max_context=64)
    for temperature in (0.01, 1.0, 50.0):
        assert sum(2.718281828459045 ** engine.log_distribution(4, temperature)) == pytest.approx(1.0)


def test_engines_of_one_seed_agree_and_of_two_seeds_differ() -> None:
    request = make_request(max_tokens=20)
    first, second, third = (complete(ScriptedEngine(50, max_context=64, seed=seed), request)[0] for seed in (1, 1, 2))
    assert first == second
    assert first.token_ids != third.token_ids


def test_importing_the_scripted_engine_loads_neither_torch_nor_vllm() -> None:
    code = "import sys, ajet.engine.scripted; print(sorted({'torch', 'vllm'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    output = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert output.stdout.strip() == "[]", output.stderr
