"""vLLM's server in a process of its own keeps the engine contract, and lives through what servers meet."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from tests.engine_contract import LOGPROB_TOLERANCE, ModelEngineContract, ModelSubject, complete, make_request
from tests.measured import MEASURED
from typing_extensions import override

from ajet.assemble.trainer import build_trainer
from ajet.config.algorithm import STALE_TIS_CAP
from ajet.config.compose import compose
from ajet.config.model import resolve_model_path
from ajet.config.saved import load, save
from ajet.engine.checkpoint import load_causal_lm
from ajet.engine.vllm_server import VllmServerConfig
from ajet.engine.vllm_server_engine import VllmServerEngine
from ajet.errors import EngineError
from ajet.tracking.files.reading import read_metric_lines

pytestmark = pytest.mark.vllm


MODEL = resolve_model_path("builtin:tiny")
CONTEXT = 1024


def perturbed(model: Any) -> Any:
    """The same model with other weights."""
    other = deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return other


@pytest.fixture(scope="module")
def subject() -> Iterator[ModelSubject]:
    """One server for the whole file: to start one takes as long as all tests together."""
    config = VllmServerConfig(max_concurrency=32, kv_cache_gib=0.1)
    engine = VllmServerEngine(config, MODEL, max_context=CONTEXT, num_threads=1)
    model = load_causal_lm(MODEL, torch.float32, max_context=CONTEXT).eval()
    yield ModelSubject(engine, model, perturbed(model))
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
            long = make_request(max_tokens=CONTEXT - 10, stop_ids=())
            before = subject.engine.policy_version
            running = asyncio.create_task(subject.engine.generate(long))
            await asyncio.sleep(0.3)
            subject.current = subject.other
            await asyncio.to_thread(subject.engine.update_weights, subject.other.named_parameters(), before + 1)
            completion = await running
            assert completion.policy_version in (before, before + 1)
            assert len(completion.token_ids) == CONTEXT - 10
            # Sampled last, and surely from the new weights, its cache computed again.
            expected = subject.reference_logprobs(long.prompt_ids, completion.token_ids, 1.0)
            assert completion.logprobs[-20:] == pytest.approx(expected[-20:], abs=LOGPROB_TOLERANCE)

        asyncio.run(program())
        subject.load(subject.first)


SETTINGS = [
    *("workflow=signals", "model=tiny", f"model.max_context={CONTEXT}", "total_steps=3", "rollout.num_tasks=4"),
    *("logger=quiet", "eval=none", "algorithm.warmup_steps=0"),
    *("hardware.training_threads=1", "hardware.sampling_threads=1"),
]


def trained(run: Path, *overrides: str) -> list[dict[str, float]]:
    run.mkdir(exist_ok=True)
    config = compose([*SETTINGS, *overrides], run_dir=run)
    save(config, run / "config.yaml")
    build_trainer(config).run()
    return read_metric_lines(run / "metrics.jsonl")


def test_a_run_on_a_server_is_as_one_in_the_process(subject: ModelSubject, tmp_path: Path) -> None:
    served = trained(tmp_path / "served", "engine=vllm_server", f"engine.urls=[{url_of(subject)}]")
    inside = trained(tmp_path / "inside", "engine=vllm", "engine.kv_cache_gib=0.1")
    for line, other in zip(served, inside, strict=True):
        kept = {name: value for name, value in other.items() if not name.startswith(MEASURED)}
        assert {name: line[name] for name in kept} == pytest.approx(kept, rel=1e-3, abs=1e-4)
        assert line["policy/max_logprob_gap"] < 1e-4


def check_staleness(run: Path, ahead: int) -> None:
    """Of a run of three steps, each played at most so many updates ahead."""
    first, *others = read_metric_lines(run / "metrics.jsonl")
    tags = [name for name in first if name.endswith("/steps_off_policy")]
    assert len(others) == 2 and tags
    assert all(first[name] == 0 for name in tags), "nothing was trained before"
    assert first["policy/max_logprob_gap"] < 1e-4
    for step, line in enumerate(others, start=1):
        assert all(0 <= line[name] <= min(step, ahead) for name in tags)
        assert 0 < line["time/overlap"] <= line["time/rollout"]
    assert any(line[name] > 0 for line in others for name in tags)
    assert load(run).algorithm.tis_cap == STALE_TIS_CAP, "the correction switches itself on"


@pytest.mark.parametrize("ahead", [1, 2])
def test_steps_are_played_while_others_are_trained(subject: ModelSubject, tmp_path: Path, ahead: int) -> None:
    overlapping = (f"rollout.max_steps_off_policy={ahead}", "algorithm.num_epochs=4")  # for training that takes a while
    trained(tmp_path, "engine=vllm_server", f"engine.urls=[{url_of(subject)}]", *overlapping)
    check_staleness(tmp_path, ahead)


def test_two_processes_play_ahead_on_the_servers_that_they_share(subject: ModelSubject, tmp_path: Path) -> None:
    settings = [*SETTINGS, "engine=vllm_server", f"engine.urls=[{url_of(subject)}]", "rollout.max_steps_off_policy=2"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "ajet.train"]
    command = [sys.executable, *launcher, *settings, f"run_dir={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    check_staleness(tmp_path, 2)


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
