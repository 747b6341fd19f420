"""The transformers engine keeps the engine contract on a real, tiny Qwen3."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from tests.engine_contract import ModelEngineContract, ModelSubject, make_request
from tests.integration.tiny_model import MAX_CONTEXT, build_tiny_model, save_tiny_model

from ajet.engine.transformers import TransformersConfig
from ajet.engine.transformers_engine import TransformersEngine


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_model(tmp_path_factory.mktemp("tiny_model"))


@pytest.fixture(scope="module")
def subject(model_path: str) -> Iterator[ModelSubject]:
    engine = TransformersEngine(
        TransformersConfig(max_concurrency=16), model_path, max_context=MAX_CONTEXT, num_threads=1
    )
    yield ModelSubject(engine, build_tiny_model(0), build_tiny_model(1))
    engine.close()


class TestTransformersEngine(ModelEngineContract):
    pass


def test_a_request_that_arrives_late_joins_the_running_ones(subject: ModelSubject) -> None:
    engine = subject.engine

    async def program() -> list[str]:
        finished: list[str] = []

        async def call(name: str, max_tokens: int) -> None:
            await engine.generate(make_request(max_tokens=max_tokens))
            finished.append(name)

        long = asyncio.create_task(call("long", 60))
        await call("first", 2)
        await call("second", 2)
        await long
        return finished

    assert asyncio.run(program()) == ["first", "second", "long"]
