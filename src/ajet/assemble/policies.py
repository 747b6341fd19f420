"""The config's model and algorithm groups -> what learns: a policy in this process, or adapters on a server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from transformers import AutoConfig, AutoTokenizer

from ajet.config.adapters import engine_adapters
from ajet.config.hardware import HardwareConfig, rank_and_size
from ajet.config.model import ModelConfig
from ajet.config.root import Config
from ajet.engine.base import Engine
from ajet.engine.checkpoint import load_causal_lm
from ajet.errors import ConfigError, RunDirectoryError
from ajet.train.algorithms.rule import LearningRule
from ajet.train.checkpoint import load_trainer_state
from ajet.train.learner import Learner
from ajet.train.lora import with_lora
from ajet.train.model_card import ADAPTER
from ajet.train.onednn import pays, with_onednn_linear
from ajet.train.policy import TrainablePolicy
from ajet.train.tinker_adapters import is_at_hand, merged_model

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def make_learner(
    config: Config, model_path: str, engine: Engine, rule: LearningRule, say: Callable[[str], None]
) -> Learner:
    """What learns, where the configured engine's model is: on its server, or in this process.

    Args:
        config: of the run.
        model_path: where the model is.
        engine: of the configuration.
        rule: what the algorithm group names.
        say: told a sentence for the user.
    """
    if not config.engine.trains:
        return make_policy(
            config.model,
            config.hardware,
            model_path,
            make_accelerator(config.hardware),
            rule,
            temperature=config.rollout.temperature,
            total_steps=config.total_steps,
            seed=config.seed,
            publishes_adapters=engine_adapters(config) is not None,
        )
    from ajet.engine.tinker_engine import TinkerEngine  # both load the client, which others do without
    from ajet.train.tinker_learner import TinkerLearner

    assert isinstance(engine, TinkerEngine)
    learner = TinkerLearner(
        engine,
        rule=rule,
        rank=config.model.lora.rank,
        seed=config.seed,
        total_steps=config.total_steps,
        dtype=config.model.dtype,
        vocab_size=AutoConfig.from_pretrained(model_path).get_text_config().vocab_size,
        tokenizer=AutoTokenizer.from_pretrained(model_path),
        model_path=model_path,
        say=say,
    )
    if config.resume is None:
        learner.make_adapters()
    return learner


class ServedPolicies:
    """What an engine that trains has trained, one checkpoint after the other: of a server's few places for adapters one
    is taken."""

    def __init__(self, engine: Engine) -> None:
        """`engine`: connected to the server."""
        from ajet.engine.tinker_engine import TinkerEngine

        assert isinstance(engine, TinkerEngine)
        self._engine = engine
        self._restored: tuple[Path, Any] | None = None
        """The checkpoint whose adapters the server has at the moment, and their client."""

    def use(self, checkpoint: Path | None) -> None:
        """Sample from a checkpoint's weights from now on, None being the starting model.

        Raises:
            RunDirectoryError: the checkpoint is of a run that was trained elsewhere.
            EngineError: the server has its weights no more.
        """
        service = self._engine.service
        if checkpoint is None:
            self._engine.sample_from_start()
            return
        if self._restored is None or self._restored[0] != checkpoint:
            saved = load_trainer_state(checkpoint)["policy"]
            if "state_path" not in saved:
                raise RunDirectoryError(
                    f"{checkpoint} was not trained on a Tinker server: evaluate it with engine=transformers or vllm"
                )
            if self._restored is not None:
                service.forget(self._restored[1])
                self._restored = None
            # Saved sampling weights are of no use to a server that has dropped the adapters behind them.
            self._restored = checkpoint, service.restored(saved["state_path"], rank=saved["rank"], seed=0)
        self._engine.sample_from(service.sampler(self._restored[1]), 0)


def load_trained(model: ModelConfig, hardware: HardwareConfig, model_path: str, checkpoint: Path | None) -> Any:
    """A checkpoint's model for an engine of this machine, None being the starting model. What a server has trained may
    be saved as an adapter alone, which is merged into the starting model here.

    Raises:
        RunDirectoryError: its weights were not saved here.
        ConfigError: as `load_model`.
    """
    folder = None if checkpoint is None else checkpoint / "model"
    if folder is None or is_at_hand(str(folder)):
        return load_model(model, hardware, model_path if folder is None else str(folder))
    if not (folder / ADAPTER).is_dir():
        raise RunDirectoryError(
            f"{folder} holds no weights: they could not be fetched from the server when it was saved"
        )
    return merged_model(model_path, folder / ADAPTER, dtype=model.dtype)


def make_accelerator(hardware: HardwareConfig) -> Accelerator:
    """Accelerate on the configured device."""
    return Accelerator(cpu=hardware.device == "cpu", mixed_precision=hardware.mixed_precision)


def make_policy(
    model: ModelConfig,
    hardware: HardwareConfig,
    model_path: str,
    accelerator: Accelerator,
    rule: LearningRule,
    *,
    temperature: float,
    total_steps: int,
    seed: int,
    publishes_adapters: bool = False,
) -> TrainablePolicy:
    """The model to train, its adapters, reference and optimizer.

    Args:
        model: the group's settings.
        hardware: likewise.
        model_path: where the model is.
        accelerator: on the configured device.
        rule: what the algorithm group names.
        temperature: that sampling has.
        total_steps: of the whole run.
        seed: of adapters.
        publishes_adapters: whether the engine takes adapters as they are.

    Raises:
        ConfigError: `hardware.attention=flex` is not for this model.
    """
    policy = TrainablePolicy(
        _trained_model(model, hardware, model_path, seed),
        tokenizer=AutoTokenizer.from_pretrained(model_path),
        accelerator=accelerator,
        rule=rule,
        temperature=temperature,
        total_steps=total_steps,
        # Beneath adapters the starting model is left as it was: no second one is needed.
        reference=load_model(model, hardware, model_path) if rule.config.kl_coef and not model.lora.rank else None,
        recompute_layers=hardware.gradient_checkpointing,
        compiled=hardware.compile,
        offload_optimizer=hardware.offload_optimizer,
        sharded=hardware.data_parallel == "fsdp" and rank_and_size()[1] > 1,
        num_threads=hardware.training_threads,
        blocks_from=hardware.blocks_from(rule.config.max_pack_tokens),
        publishes_adapters=publishes_adapters,
    )
    if policy.why_no_blocks and hardware.attention == "flex":
        raise ConfigError(f"hardware.attention=flex: {policy.why_no_blocks}; choose hardware.attention=dense")
    return policy


def _trained_model(model: ModelConfig, hardware: HardwareConfig, model_path: str, seed: int) -> Any:
    """The model in float32, or as configured with adapters on it."""
    lora = model.lora
    if not lora.rank:
        # Updates are small against the weights and would round away in bfloat16.
        return load_model(model, hardware, model_path, torch.float32)
    assert lora.alpha is not None and lora.targets is not None
    frozen = load_model(model, hardware, model_path)  # frozen, so it may be small; peft keeps the adapters in float32
    with torch.random.fork_rng():  # peft draws the adapters from torch's global generator
        torch.manual_seed(seed)
        return with_lora(frozen, rank=lora.rank, alpha=lora.alpha, targets=lora.targets)


def load_model(model: ModelConfig, hardware: HardwareConfig, model_path: str, dtype: torch.dtype | None = None) -> Any:
    """The checkpoint in `dtype`, or in the configured one.

    Raises:
        ConfigError: there is no such checkpoint, its weights are not finite, or `model.max_context` does not fit it.
    """
    loaded = load_causal_lm(model_path, dtype or DTYPES[model.dtype], max_context=model.max_context)
    broken = [name for name, weight in loaded.named_parameters() if not bool(torch.isfinite(weight).all())]
    if broken:
        raise ConfigError(f"model.path={model.path} holds weights that are not finite, e.g. {broken[0]}")
    # Mixed precision is torch's to do, layer by layer.
    stays_float32 = hardware.device == "cpu" and hardware.mixed_precision == "no"
    return with_onednn_linear(loaded) if stays_float32 and pays() else loaded
