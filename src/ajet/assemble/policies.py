"""The config's model and algorithm groups -> the policy that is trained."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from transformers import AutoTokenizer

from ajet.config.root import Config
from ajet.engine.checkpoint import load_causal_lm
from ajet.errors import ConfigError
from ajet.train.algorithms.rule import LearningRule
from ajet.train.lora import with_lora
from ajet.train.onednn import pays, with_onednn_linear
from ajet.train.policy import TrainablePolicy

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def make_policy(config: Config, model_path: str, accelerator: Accelerator, rule: LearningRule) -> TrainablePolicy:
    """The model to train, its adapters, reference and optimizer."""
    return TrainablePolicy(
        _trained_model(config, model_path),
        tokenizer=AutoTokenizer.from_pretrained(model_path),
        accelerator=accelerator,
        rule=rule,
        temperature=config.rollout.temperature,
        total_steps=config.total_steps,
        reference=load_model(config, model_path) if config.algorithm.kl_coef else None,
        num_threads=config.hardware.training_threads,
    )


def _trained_model(config: Config, model_path: str) -> Any:
    """The model in float32, or as configured with adapters on it."""
    lora = config.model.lora
    if not lora.rank:
        # Updates are small against the weights and would round away in bfloat16.
        return load_model(config, model_path, torch.float32)
    assert lora.alpha is not None and lora.targets is not None
    model = load_model(config, model_path)  # frozen, so it may be small; peft keeps the adapters in float32
    with torch.random.fork_rng():  # peft draws the adapters from torch's global generator
        torch.manual_seed(config.seed)
        return with_lora(model, rank=lora.rank, alpha=lora.alpha, targets=lora.targets)


def load_model(config: Config, model_path: str, dtype: torch.dtype | None = None) -> Any:
    """The checkpoint in `dtype`, or in the configured one.

    Raises:
        ConfigError: there is no such checkpoint, its weights are not finite, or `model.max_context` does not fit it.
    """
    model = load_causal_lm(model_path, dtype or DTYPES[config.model.dtype], max_context=config.model.max_context)
    broken = [name for name, weight in model.named_parameters() if not bool(torch.isfinite(weight).all())]
    if broken:
        raise ConfigError(f"model.path={config.model.path} holds weights that are not finite, e.g. {broken[0]}")
    hardware = config.hardware
    # Mixed precision is torch's to do, layer by layer.
    stays_float32 = hardware.device == "cpu" and hardware.mixed_precision == "no"
    return with_onednn_linear(model) if stays_float32 and pays() else model
