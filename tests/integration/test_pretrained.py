"""A pretrained model from a Python package: converted once, sampled and trained like any other."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from ajet.assemble import build_trainer
from ajet.chat.renderer import ChatRenderer, Conversation
from ajet.chat.types import ChatRequest
from ajet.config.compose import compose
from ajet.config.saved import save
from ajet.engine.base import SamplingRequest
from ajet.engine.checkpoint import load_causal_lm
from ajet.engine.packaged import PACKAGED, check_packaged, packaged_checkpoint
from ajet.engine.vllm import VllmConfig
from ajet.engine.vllm_engine import VllmEngine
from ajet.errors import ConfigError

pytestmark = pytest.mark.slow
PROMPT = "Word: dog. Give three other words that make one think of it."


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Converted into a cache that holds a damaged copy: half a minute."""
    cache = tmp_path_factory.mktemp("cache")
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(cache)
    damaged = cache / "ajet" / "models" / f"smollm2-{PACKAGED['smollm2'].sha256[:12]}"
    damaged.mkdir(parents=True)
    (damaged / "config.json").write_text("{}")
    yield packaged_checkpoint("smollm2")
    del os.environ["XDG_CACHE_HOME"]
    if before is not None:
        os.environ["XDG_CACHE_HOME"] = before


def test_it_is_converted_once_and_verified_at_each_start(smollm2: Path) -> None:
    weights = smollm2 / "model.safetensors"
    before = weights.stat().st_mtime_ns
    assert packaged_checkpoint("smollm2") == smollm2 and weights.stat().st_mtime_ns == before
    assert {tensor.dtype for tensor in load_file(weights).values()} == {torch.float32}
    config = json.loads((smollm2 / "config.json").read_text())
    assert config["model_type"] == "llama" and "quantization_config" not in config
    with pytest.raises(ConfigError, match=f"packaged models: {', '.join(PACKAGED)}"):
        check_packaged("smollm3")


@pytest.mark.vllm
def test_engine_and_trainer_agree(smollm2: Path) -> None:
    renderer = ChatRenderer(AutoTokenizer.from_pretrained(smollm2))
    prompt = renderer.prompt_ids(ChatRequest(messages=[{"role": "user", "content": PROMPT}]), Conversation())
    engine = VllmEngine(
        VllmConfig(max_concurrency=4, kv_cache_gib=0.2),
        str(smollm2),
        max_context=256,
        num_threads=1,
        max_batched_tokens=256,
    )
    try:
        request = SamplingRequest(prompt_ids=prompt, max_tokens=24, temperature=1.0, seed=3, stop_ids=renderer.stop_ids)
        sampled = asyncio.run(engine.generate(request))
    finally:
        engine.close()
    model = load_causal_lm(str(smollm2), torch.float32, max_context=256).eval()
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *sampled.token_ids]])).logits[0, len(prompt) - 1 : -1]
    logprobs = torch.log_softmax(logits.float(), -1).gather(1, torch.tensor(sampled.token_ids)[:, None])[:, 0]
    assert sampled.logprobs == pytest.approx(logprobs.tolist(), abs=1e-4)


@pytest.mark.vllm
def test_two_steps_of_it_train(smollm2: Path, tmp_path: Path) -> None:
    overrides = ["workflow=hints", "total_steps=2", "rollout.num_tasks=2", "rollout.group_size=4", "eval=none"]
    config = compose([*overrides, "logger=quiet", "checkpoint.every=0"], run_dir=tmp_path)
    save(config, tmp_path / "config.yaml")
    build_trainer(config).run()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1]
    for line in lines:
        assert line["policy/max_logprob_gap"] < 2e-3 and line["policy/skipped_nonfinite"] == 0
        assert 0 <= line["workflow/legal_hints"] <= 1
