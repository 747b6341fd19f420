"""What only this machine, its network and the checkpoint can say about a config: asked before anything is loaded.

In: a validated config. Out: where its model is, or one sentence on what to change. Left out: everything that the
settings say by themselves, which `config/validate.py` checks without torch.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.errors import OfflineModeIsEnabled, RepositoryNotFoundError
from transformers import AutoConfig, AutoModelForCausalLM

from ajet.config.algorithm import AlgorithmConfig
from ajet.config.fields import PACKAGED_PREFIX
from ajet.config.hardware import HardwareConfig
from ajet.config.model import LoraConfig, ModelConfig, resolve_model_path
from ajet.engine.base import EngineConfig
from ajet.engine.checkpoint import check_context
from ajet.engine.packaged import packaged_checkpoint
from ajet.errors import ConfigError
from ajet.train.lora import check_targets

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
"""What is needed of a model whose weights are on a server."""
HUB_TIMEOUT_S = 10.0


def find_model(model: ModelConfig, engine: EngineConfig, hardware: HardwareConfig) -> str:
    """`model.path` as transformers and vLLM take it, on a machine that has what the config names.

    Raises:
        ConfigError: GPUs that are not here, a hub id that is neither cached nor within reach, a context too long.
    """
    check_gpus(engine, hardware, torch.cuda.device_count() if torch.cuda.is_available() else 0)
    path = resolve_model_path(model.path)
    if path.startswith(PACKAGED_PREFIX):
        path = str(packaged_checkpoint(path.removeprefix(PACKAGED_PREFIX)))
    if not Path(path).is_dir():
        _check_hub(path, has_weights=not engine.trains)
    check_context(_checkpoint_config(path), model.max_context)
    return path


def check_gpus(engine: EngineConfig, hardware: HardwareConfig, num_gpus: int) -> None:
    """Refuse devices that a machine with `num_gpus` CUDA devices does not have.

    Raises:
        ConfigError: too few.
    """
    if hardware.device != "cuda":
        return
    if num_gpus == 0:
        raise ConfigError(
            f"hardware.device=cuda needs a CUDA GPU, but torch {torch.__version__} finds none here: choose hardware=cpu"
        )
    engine.check_gpus(num_gpus)


def check_training(algorithm: AlgorithmConfig, lora: LoraConfig, model_path: str) -> None:
    """Refuse settings of training that the checkpoint gives nothing to work on.

    Raises:
        ConfigError: `algorithm.min_entropy` above any entropy, or adapters for layers that there are not.
    """
    checkpoint = _checkpoint_config(model_path)
    most = math.log(checkpoint.get_text_config().vocab_size)
    if algorithm.min_entropy >= most:
        raise ConfigError(
            f"algorithm.min_entropy={algorithm.min_entropy:g} gives no token credit: with a vocabulary of "
            f"{checkpoint.get_text_config().vocab_size} entropy is below {most:.2f} nats, and seldom above 1"
        )
    if lora.targets:
        auto_model: Any = AutoModelForCausalLM  # untyped
        with torch.device("meta"):  # names and shapes, no storage
            check_targets(auto_model.from_config(checkpoint), lora.targets)


def _checkpoint_config(model_path: str) -> Any:
    try:
        return AutoConfig.from_pretrained(model_path)
    except (OSError, ValueError) as error:  # transformers' words for no file and for an unknown architecture
        raise ConfigError(f"model.path={model_path} cannot be loaded: {str(error).splitlines()[0]}") from error


def _check_hub(name: str, *, has_weights: bool) -> None:
    """Pass if what is needed of the hub's model, its weights or its tokenizer, is cached or can be asked for; one
    request, no retries."""
    needed, download = (WEIGHTS, "it") if has_weights else (TOKENIZERS, "its tokenizer and config.json")
    if _cached(name, "config.json") and any(_cached(name, file) for file in needed):
        return
    try:
        HfApi().model_info(name, timeout=HUB_TIMEOUT_S)
    except OfflineModeIsEnabled as error:
        raise ConfigError(
            f"model.path={name} is not in the cache of Hugging Face, and HF_HUB_OFFLINE forbids to fetch it: "
            f"download {download} first, or name a directory"
        ) from error
    except RepositoryNotFoundError as error:
        raise ConfigError(
            f"model.path={name} is not on the hub, or not open to your token: check the name, or run `hf auth login`"
        ) from error
    except Exception as error:  # the boundary to the network: whose errors these are changes with huggingface_hub
        words = " ".join(str(error).split())[:200] or type(error).__name__
        raise ConfigError(
            f"model.path={name} is not in the cache of Hugging Face, and the hub cannot be reached "
            f"({words}): download {download} first, or name a directory"
        ) from error


def _cached(name: str, file: str) -> bool:
    return isinstance(try_to_load_from_cache(name, file), str)
