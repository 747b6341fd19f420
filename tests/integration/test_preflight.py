"""What machine, hub and checkpoint have against a config is one line, before anything is loaded."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.integration.tiny_model import VOCAB_SIZE, build_tiny_model

from ajet.assemble.preflight import check_gpus, check_training, find_model
from ajet.config.compose import compose
from ajet.config.root import Config
from ajet.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Qwen3 whose two ends share a matrix."""
    folder = tmp_path_factory.mktemp("qwen")
    build_tiny_model().save_pretrained(folder)
    return folder


def composed(model: Path, *overrides: str) -> Config:
    return compose(["workflow=signals", f"model.path={model}", *overrides], run_dir="outputs/here")


def check(model: Path, *overrides: str) -> None:
    config = composed(model, *overrides)
    check_training(config.algorithm, config.model.lora, str(model))


def train(cwd: Path, *overrides: str, **environment: str) -> str:
    """The last line that `python -m ajet.train` says, which neither runs nor waits."""
    done = subprocess.run(
        [sys.executable, "-m", "ajet.train", "workflow=signals", "logger.wandb.mode=disabled", *overrides],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_HOME": str(cwd / "hub"), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode != 0 and "Traceback" not in done.stderr, done.stdout + done.stderr
    return (done.stdout + done.stderr).strip().splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE forbids to fetch it: download it first, or name a directory"),
        (
            {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"},
            "the hub cannot be reached ([Errno 111] Connection refused): download it first, or name a directory",
        ),
    ],
)
def test_a_hub_id_that_is_neither_cached_nor_within_reach_is_one_line(
    environment: dict[str, str], words: str, tmp_path: Path
) -> None:
    line = train(tmp_path, "model.path=nobody/nothing", **environment)
    assert line.endswith(f"model.path=nobody/nothing is not in the cache of Hugging Face, and {words}")


def test_a_server_is_asked_for_weights_so_that_the_tokenizer_is_enough_here() -> None:
    config = compose(["workflow=signals", "hardware=tinker", "model.path=nobody/nothing"], run_dir="outputs/here")
    with pytest.raises(ConfigError, match=r"download its tokenizer and config\.json first, or name a directory"):
        find_model(config.model, config.engine, config.hardware)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_one_line(tmp_path: Path, qwen: Path) -> None:
    line = train(tmp_path, f"model.path={qwen}", "hardware=gpu_1")
    assert "hardware.device=cuda needs a CUDA GPU, but torch" in line and line.endswith("choose hardware=cpu")


def test_a_model_is_spread_over_no_more_gpus_than_there_are(qwen: Path) -> None:
    config = composed(qwen, "hardware=gpu_1", "engine.tensor_parallel_size=2")
    check_gpus(config.engine, config.hardware, 2)
    with pytest.raises(ConfigError, match="tensor_parallel_size=2 needs 2 GPUs, but this machine has 1"):
        check_gpus(config.engine, config.hardware, 1)
    on_cpu = composed(qwen)
    check_gpus(on_cpu.engine, on_cpu.hardware, 0)


def test_min_entropy_is_below_what_the_vocabulary_allows(qwen: Path) -> None:
    most = math.log(VOCAB_SIZE)
    check(qwen, f"algorithm.min_entropy={most - 0.01}")
    with pytest.raises(ConfigError, match=f"with a vocabulary of {VOCAB_SIZE} entropy is below 5.70 nats"):
        check(qwen, f"algorithm.min_entropy={most}")


@pytest.mark.parametrize("target", ["c_attn", "self_attn", "lm_head", "q", "proj"])
def test_adapters_are_for_layers_that_there_are(target: str, qwen: Path) -> None:
    adapters = ["model.lora.rank=2", "model.lora.alpha=4"]
    check(qwen, *adapters, "model.lora.targets=[q_proj,mlp.down_proj]")
    with pytest.raises(ConfigError) as caught:
        check(qwen, *adapters, f"model.lora.targets=[q_proj,{target}]")
    assert str(caught.value) == (
        f"model.lora.targets: {target} names no linear layer of qwen3 that adapters can train; "
        "choose from down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"
    )
