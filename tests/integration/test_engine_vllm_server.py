"""vLLM's server in a process of its own keeps the engine contract, and lives through what servers meet."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.engine_contract import LOGPROB_TOLERANCE, ModelEngineContract, ModelSubject, complete, make_request
from tests.integration.tiny_model import MAX_CONTEXT, build_tiny_model, save_tiny_model
from typing_extensions import override

from ajet.engine.vllm_server import VllmServerConfig, VllmServerEngine
from ajet.errors import EngineError

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_model(tmp_path_factory.mktemp("tiny_model"))


@pytest.fixture(scope="module")
def subject(model_path: str) -> Iterator[ModelSubject]:
    config = VllmServerConfig(max_concurrency=16, kv_cache_gib=0.1)
    engine = VllmServerEngine(config, model_path, max_context=MAX_CONTEXT, num_threads=1)
    yield ModelSubject(engine, build_tiny_model(0), build_tiny_model(1))
    engine.close()


def url_of(subject: ModelSubject) -> str:
    engine = subject.engine
    assert isinstance(engine, VllmServerEngine)
    return engine.urls[0]


def kill_server(url: str) -> None:
    """Kill the process that listens there, as a machine without memory would."""
    port = httpx.URL(url).port
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"ajet.engine.vllm_serving" in command and str(port).encode() in command:
            os.killpg(int(process.name), signal.SIGKILL)


class TestVllmServer(ModelEngineContract):
    @override
    def test_an_update_while_a_request_runs_is_an_error(self, subject: ModelSubject) -> None:
        """Not here: the request goes on, with the new weights."""

        async def program() -> None:
            long = make_request(max_tokens=MAX_CONTEXT - 10, stop_ids=())
            before = subject.engine.policy_version
            running = asyncio.create_task(subject.engine.generate(long))
            await asyncio.sleep(0.3)
            subject.current = subject.other
            await asyncio.to_thread(subject.engine.update_weights, subject.other.named_parameters(), before + 1)
            completion = await running
            assert completion.policy_version in (before, before + 1)
            assert len(completion.token_ids) == MAX_CONTEXT - 10
            # Sampled last, and surely from the new weights, its cache computed again.
            expected = subject.reference_logprobs(long.prompt_ids, completion.token_ids, 1.0)
            assert completion.logprobs[-20:] == pytest.approx(expected[-20:], abs=LOGPROB_TOLERANCE)

        asyncio.run(program())
        subject.load(subject.first)


def test_a_server_that_dies_is_started_again_once_with_its_weights(
    subject: ModelSubject, capfd: pytest.CaptureFixture[str]
) -> None:
    """The last test of the file: the server is dead at its end."""
    subject.load(subject.other)
    (expected,) = complete(subject.engine, make_request())
    kill_server(url_of(subject))
    again = complete(subject.engine, make_request(), make_request(seed=2))
    assert again[0].token_ids == expected.token_ids and again[0].policy_version == expected.policy_version
    assert capfd.readouterr().err.count("is started again") == 1
    kill_server(url_of(subject))
    with pytest.raises(EngineError, match="ended a second time"):
        complete(subject.engine, make_request())


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"urls": []}, "must name servers"),
        ({"urls": ["gpu-2:8000"]}, "must name servers"),
        ({"urls": ["http://gpu-2:8000"], "num_servers": 2}, "engine.num_servers"),
        ({"gpus": [0], "num_servers": 2}, "names 1 GPUs"),
    ],
)
def test_servers_that_cannot_be_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        VllmServerConfig(**settings).check(device="cpu", temperature=1.0)


def test_a_server_that_is_not_there_is_named_at_once(model_path: str) -> None:
    config = VllmServerConfig(urls=["http://127.0.0.1:9"])
    with pytest.raises(EngineError, match=r"no vLLM server answers at http://127\.0\.0\.1:9"):
        VllmServerEngine(config, model_path, max_context=MAX_CONTEXT)
