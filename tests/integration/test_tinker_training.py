"""`hardware=tinker` as a user types it, against a real server: trained, resumed, evaluated; and what may go wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from recipes.tinker_server.process import TinkerServer
from tests.environments import environment_of
from tests.integration.test_tinker_without_server import make_run, write_adapter
from tests.sentences import names
from tests.speaking import said_until
from transformers import AutoModelForCausalLM

from ajet.analysis import load_run
from ajet.config.model import resolve_model_path
from ajet.evaluate.__main__ import main as evaluate
from ajet.train.__main__ import main as train

KEY = "tml-right"
SMALL = [
    *("workflow=signals", "hardware=tinker", "model.lora.rank=4", "rollout.num_tasks=2", "rollout.group_size=4"),
    *("algorithm.warmup_steps=0", "eval.num_tasks=2", "logger=plain", "logger.wandb.mode=disabled"),
    *("tinker.timeout_s=60", "checkpoint.every=1"),
]


@pytest.fixture(scope="module")
def trained(tinker_server: TinkerServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps, resumed for a third."""
    run = tmp_path_factory.mktemp("runs") / "run"
    assert train([*SMALL, f"tinker.base_url={tinker_server.url}", "total_steps=2", f"run_dir={run}"]) == 0
    assert train([f"resume={run}", "total_steps=3"]) == 0
    return run


@pytest.mark.slow
def test_a_run_on_a_server_is_recorded_as_any_other(trained: Path) -> None:
    run = load_run(trained)
    assert run.num_steps == 3
    metrics = run.metrics
    assert (metrics["policy/optimizer_steps"].dropna() == 1).all()
    assert (metrics["policy/max_logprob_gap"].dropna() < 1e-4).all()
    assert {"policy/speaker/sampled_entropy", "policy/listener/kl_ref", "reward/speaker/mean"} <= set(metrics.columns)
    assert not (trained / "plan.json").exists(), "what is elsewhere is not planned for here"


@pytest.mark.slow
def test_a_checkpoint_holds_adapters_and_the_model_with_them_merged_in(trained: Path) -> None:
    from peft import PeftModel

    folder = trained / "checkpoints" / "step_3" / "model"
    start = AutoModelForCausalLM.from_pretrained(resolve_model_path("builtin:tiny"), dtype=torch.float32)
    ids = torch.tensor([[3, 5, 7, 9, 11]])
    with torch.no_grad():
        before = start(input_ids=ids).logits
        merged = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(input_ids=ids).logits
        adapted = PeftModel.from_pretrained(start, str(folder / "adapter"))(input_ids=ids).logits
    torch.testing.assert_close(merged, adapted, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(merged, before, atol=1e-4)


@pytest.mark.slow
def test_it_is_evaluated_on_the_server(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate([f"run={trained}", "num_tasks=2"]) == 0
    assert "starting model against step_3" in capsys.readouterr().out


@pytest.mark.slow
def test_a_state_that_the_server_does_not_have_is_said_before_anything_is_played(
    tinker_server: TinkerServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run", write_adapter, url=tinker_server.url)
    assert evaluate([f"run={run}", "num_tasks=2"]) == 1
    told = capsys.readouterr()
    assert names(told.err, "tinker://gone/weights/state ... python -m ajet.evaluate ... engine=transformers")
    assert "starting model" not in told.out


@pytest.mark.slow
def test_a_machine_without_vllm_trains_and_its_key_is_in_no_file(tinker_server: TinkerServer, tmp_path: Path) -> None:
    python = environment_of(["tinker", "agentscope"], tmp_path / "own")
    asked = [*SMALL, "logger.wandb.mode=offline", "total_steps=2", f"run_dir={tmp_path / 'run'}", "eval=none"]
    asked = [word for word in asked if word not in {"logger.wandb.mode=disabled", "eval.num_tasks=2"}]
    asked += [f"tinker.base_url={tinker_server.url}"]
    process = started(asked, tmp_path, python=python)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert load_run(tmp_path / "run").num_steps == 2
    files = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(python.parents[1])]
    assert any("wandb" in str(path) for path in files)
    assert not [path for path in files if KEY.encode() in path.read_bytes()] and KEY not in said


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[TinkerServer]:
    with TinkerServer(Path(resolve_model_path("builtin:tiny")), tmp_path / "server", key=KEY) as server:
        yield server


@pytest.mark.slow
def test_a_wrong_key_a_server_that_goes_and_one_that_comes_back(
    own_server: TinkerServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    quick = ["rollout.timeout_s=30", "eval=none", "algorithm.kl_coef=0", "algorithm.kl_schedule=constant"]
    quick += ["checkpoint.every=1", "tinker.normalization=sequence_mean"]
    asked = [*(word for word in SMALL if not word.startswith(("eval.", "tinker.", "checkpoint."))), *quick]
    asked += [f"tinker.base_url={own_server.url}", f"run_dir={run}", "total_steps=200"]
    monkeypatch.setenv("TINKER_API_KEY", "tml-wrong")
    assert train(asked) == 1
    said = capfd.readouterr().err
    assert "does not take the key in TINKER_API_KEY" in said and "tml-wrong" not in said

    process = started(asked, tmp_path)
    said_until(process, "step 1/200")
    while not (run / "checkpoints" / "step_1").is_dir():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    own_server.kill()  # what comes after a state was saved is play
    begun = time.monotonic()
    last_words, _ = process.communicate(timeout=120)
    assert process.returncode == 1, last_words
    assert time.monotonic() - begun < 60, "a wait has its end, and saving is not waited for as long again"
    assert names(
        last_words,
        f"the Tinker server at {own_server.url} did not answer within rollout.timeout_s=30 seconds (sampling) ... "
        f"the state is saved, resume with: ... resume={run}",
    )
    assert "episodes" not in last_words, "none of them is to blame"
    assert KEY not in "".join(path.read_text(errors="replace") for path in run.rglob("*.*") if path.is_file())

    folder = own_server.log.parent
    with TinkerServer(Path(resolve_model_path("builtin:tiny")), folder, port=own_server.port, key=KEY):
        monkeypatch.setenv("TINKER_API_KEY", KEY)
        assert train([f"resume={run}", "total_steps=2"]) == 0
    assert load_run(run).num_steps == 2


def started(arguments: list[str], folder: Path, *, python: Path = Path(sys.executable)) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [python, "-m", "ajet.train", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env=os.environ | {"TINKER_API_KEY": KEY, "OMP_NUM_THREADS": "1"},
    )
