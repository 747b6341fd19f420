"""The Tinker engine keeps what every sampler keeps, on a real server: at temperature 1, without being given weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest
from recipes.tinker_server.process import TinkerServer
from tests.engine_contract import ModelSubject, SamplingContract, complete, make_request
from tests.integration.test_tinker_learner import MODEL, base_model

from ajet.engine.tinker import TinkerConfig, TinkerEngineConfig
from ajet.engine.tinker_engine import TinkerEngine
from ajet.errors import EngineError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def subject(tinker_server: TinkerServer) -> Iterator[ModelSubject]:
    settings = TinkerConfig(base_url=tinker_server.url, timeout_s=120)
    engine = TinkerEngine(TinkerEngineConfig(service=settings), MODEL, max_context=128)
    model = base_model()
    yield ModelSubject(engine, model, model)
    engine.close()


class TestTinkerEngine(SamplingContract):
    logprob_tolerance: ClassVar[float] = 1e-4
    """JAX rounds otherwise than torch, by how much depends on the CPU."""
    temperatures: ClassVar[tuple[float, ...]] = (1.0,)
    hottest: ClassVar[float] = 1.0
    lengths: ClassVar[tuple[int, ...]] = (12,)
    num_draws: ClassVar[int] = 300
    num_distinct: ClassVar[int] = 19  # a model that was trained: one time in twenty two of twenty are alike


def test_it_takes_neither_another_temperature_nor_weights(subject: ModelSubject) -> None:
    with pytest.raises(EngineError, match=r"temperature 1, not 0\.7"):
        complete(subject.engine, make_request(temperature=0.7))
    with pytest.raises(EngineError, match="takes no others"):
        subject.engine.update_weights(subject.current_weights(), 1)
