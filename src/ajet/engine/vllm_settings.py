"""What vLLM is told, in this process and in a server of its own: settings, and what no user may choose.

In: the engine group's settings, sampling requests. Out: fields of vLLM's own `EngineArgs` and `SamplingParams`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from ajet.config.fields import one_of, ruled
from ajet.engine.base import Adapters, EngineConfig, SamplingRequest
from ajet.errors import ConfigError, EngineError

if TYPE_CHECKING:
    from torch.nn import Module

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 2.0
"""Below, vLLM would sample at 0.01 or greedily without a word: not what was asked for. Above, it refuses."""

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM makes room for; adapters of less fit in."""
MAX_LORA_RANK = LORA_RANKS[-1]
OUTPUT_LAYER = "lm_head"
"""Of which vLLM adapts some, by the size of the vocabulary."""

CPU_BATCHED_TOKENS = 4096
"""Default of `max_batched_tokens` on the CPU."""

PROCESS_DEFAULTS = {
    # Its warnings on the CPU are about kernels and preloaded libraries that no user can act upon.
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}
ENGINE_SETTINGS: dict[str, Any] = {
    "skip_tokenizer_init": True,
    "generation_config": "vllm",  # else the checkpoint's top-p and top-k would be applied
    "logprobs_mode": "processed_logprobs",  # after temperature
    "enable_prefix_caching": True,
    "disable_log_stats": True,
}
"""What no caller may choose otherwise."""
GRAMMAR_SETTINGS: dict[str, Any] = {
    "skip_tokenizer_init": False,
    # The trainer's, too. Of its own accord vLLM takes another where this one refuses a grammar.
    "structured_outputs_config": {"backend": "xgrammar"},
}
"""Where replies may be sampled under grammars."""


@dataclass
class VllmBaseConfig(EngineConfig):
    """What every way to run vLLM can be told, by default as it fits a CPU."""

    max_concurrency: int = ruled(128, at_least=1)
    """Most requests sampled in one batch; further ones wait inside vLLM."""
    kv_cache_gib: float | None = ruled(1.0, above=0)
    """On the CPU: memory for the KV cache, GiB. Null on a GPU, where `gpu_memory_utilization` says it."""
    block_size: int | None = ruled(32, at_least=1)
    """Tokens in a KV block; smaller blocks reuse more of a shared prefix. Null: vLLM's choice."""
    gpu_memory_utilization: float | None = ruled(None, above=0, below=1)
    """On a GPU: share of its memory for weights and KV cache; the rest is for training."""
    tensor_parallel_size: int | None = ruled(None, at_least=1)
    """On GPUs: devices that one copy of the model is spread over; more than one starts worker processes."""
    enforce_eager: bool = True
    """Skip compilation and CUDA graphs, for a quick start."""
    lora: str = one_of("merged", "merged", "adapters")
    """How `model.lora` reaches vLLM: `merged` into the weights, or as `adapters` beside the starting model's, which
    then answers `opponent=frozen` from the same engine."""

    needs_extras: ClassVar[tuple[str, ...]] = ("cpu", "gpu")
    follows_grammars: ClassVar[bool] = True

    @property
    @override
    def wants_adapters(self) -> bool:
        return self.lora == "adapters"

    @override
    def why_merged(self, adapters: Adapters) -> str | None:
        if adapters.rank > MAX_LORA_RANK:
            return f"vLLM's adapters have rank {MAX_LORA_RANK} at most"
        if any(target.rpartition(".")[2] == OUTPUT_LAYER for target in adapters.targets):
            return f"vLLM has no adapter on every {OUTPUT_LAYER}"
        return None

    @override
    def check(self, *, device: str, temperature: float) -> None:
        # vLLM takes a lower one for .01, with a warning, while the trainer would divide by the one that was asked for.
        if temperature < MIN_TEMPERATURE:
            raise ConfigError(
                f"rollout.temperature={temperature:g} is below what engine={self.name} can sample at: choose at least "
                f"{MIN_TEMPERATURE:g}"
            )
        if device == "cpu":
            self._check_on_cpu()
        else:
            self._check_on_gpu()

    @override
    def check_gpus(self, num_gpus: int) -> None:
        wanted = self.tensor_parallel_size or 1
        if wanted > num_gpus:
            raise ConfigError(
                f"engine.tensor_parallel_size={wanted} needs {wanted} GPUs, but this machine has {num_gpus}: "
                f"set engine.tensor_parallel_size={num_gpus}"
            )

    def _check_on_cpu(self) -> None:
        for setting in ("gpu_memory_utilization", "tensor_parallel_size"):
            if getattr(self, setting) is not None:
                raise ConfigError(
                    f"engine.{setting} has no effect with hardware.device=cpu: leave it out, or choose hardware=gpu_1"
                )
        if self.kv_cache_gib is None:
            raise ConfigError(f"engine={self.name} on the CPU needs engine.kv_cache_gib, e.g. 1")

    def _check_on_gpu(self) -> None:
        if self.kv_cache_gib is not None:
            raise ConfigError(
                f"engine.kv_cache_gib has no effect with hardware.device=cuda: choose engine={self.name}_gpu, "
                "which takes engine.gpu_memory_utilization"
            )
        if self.gpu_memory_utilization is None:
            raise ConfigError(f"engine={self.name} on a GPU needs engine.gpu_memory_utilization, e.g. 0.4")


def engine_settings(
    config: VllmBaseConfig,
    model_path: str,
    *,
    max_context: int,
    dtype: str,
    on_cpu: bool,
    max_batched_tokens: int | None = None,
    adapters: Adapters | None = None,
    num_adapters: int = 1,
    grammars: bool = False,
) -> dict[str, Any]:
    """Fields of vLLM's `EngineArgs`, the same for an engine in this process and for a server; arguments as
    `VllmEngine`'s, and how many adapters it has at once."""
    if on_cpu:
        # vLLM steps a seeded generator back after part of a prompt, which CPU generators cannot do;
        # so prompts are not cut there, and a step must hold the longest.
        max_batched_tokens = max(max_batched_tokens or CPU_BATCHED_TOKENS, max_context)
    num_devices = config.tensor_parallel_size or 1
    return {
        "model": model_path,
        "max_model_len": max_context,
        "max_num_seqs": config.max_concurrency,
        "max_num_batched_tokens": max_batched_tokens,
        "enable_chunked_prefill": False if on_cpu else None,
        "dtype": dtype,
        "seed": 0,  # every request brings its own
        "enforce_eager": config.enforce_eager,
        "block_size": config.block_size,
        "kv_cache_memory_bytes": None if config.kv_cache_gib is None else int(config.kv_cache_gib * 2**30),
        # Read only where the KV cache's size is not given.
        "gpu_memory_utilization": config.gpu_memory_utilization or 0.5,
        "tensor_parallel_size": num_devices,
        "distributed_executor_backend": "uni" if num_devices == 1 else "mp",
        **ENGINE_SETTINGS,
        **(GRAMMAR_SETTINGS if grammars else {}),
        **({} if adapters is None else _lora_settings(adapters, num_adapters, on_cpu=on_cpu)),
    }


def _lora_settings(adapters: Adapters, num_adapters: int, *, on_cpu: bool) -> dict[str, Any]:
    return {
        "enable_lora": True,
        "max_lora_rank": next(rank for rank in LORA_RANKS if rank >= adapters.rank),
        # Layers that have none need no place for them.
        "lora_target_modules": sorted({target.rpartition(".")[2] for target in adapters.targets}),
        # On the CPU vLLM takes the last place for requests without an adapter: it has to stay empty, which is zero.
        "max_loras": num_adapters + on_cpu,
    }


def sampling_settings(request: SamplingRequest, max_tokens: int, *, vocab_size: int) -> dict[str, Any]:
    """Fields of vLLM's `SamplingParams`.

    Raises:
        EngineError: it is a request that vLLM would change or break down on.
    """
    if not MIN_TEMPERATURE <= request.temperature <= MAX_TEMPERATURE:
        raise EngineError(
            f"vLLM samples at temperatures from {MIN_TEMPERATURE} to {MAX_TEMPERATURE}, not at {request.temperature}"
        )
    if not 0 <= min(request.prompt_ids) <= max(request.prompt_ids) < vocab_size:
        raise EngineError(f"the prompt has a token id outside the vocabulary of {vocab_size}")
    return {
        "temperature": request.temperature,
        "max_tokens": max_tokens,
        "seed": request.seed % 2**63,
        "stop_token_ids": list(request.stop_ids),
        "ignore_eos": True,  # the request's stop ids are the only ones
        "logprobs": 0,  # of the sampled id alone
        "detokenize": False,
    }


def parameters_of(model_config: Any) -> Module:
    """A model as transformers has it, without storage: vLLM fuses parameters and renames them."""
    import torch
    from transformers import AutoModelForCausalLM

    auto_model: Any = AutoModelForCausalLM  # untyped
    with torch.device("meta"):
        model: Module = auto_model.from_config(model_config)
    return model
