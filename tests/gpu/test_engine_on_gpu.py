"""The transformers engine keeps the engine contract on a GPU. `make gpu` runs it; everywhere else it is skipped."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from tests.engine_contract import ModelEngineContract, ModelSubject
from tests.integration.tiny_model import MAX_CONTEXT, build_tiny_model, save_tiny_model

from ajet.engine.transformers import TransformersConfig
from ajet.engine.transformers_engine import TransformersEngine

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]

DEVICE = "cuda"


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelSubject]:
    engine = TransformersEngine(
        TransformersConfig(max_concurrency=16),
        save_tiny_model(tmp_path_factory.mktemp("tiny_model")),
        max_context=MAX_CONTEXT,
        device=DEVICE,
    )
    yield ModelSubject(engine, build_tiny_model(0), build_tiny_model(1))
    engine.close()


class TestTransformersEngineOnGpu(ModelEngineContract):
    pass
