"""What samples tokens. Settings that the named engine does not have stay null."""

from __future__ import annotations

from dataclasses import dataclass

from ajet.config.fields import one_of, ruled
from ajet.errors import ConfigError

_KNOBS: dict[str, tuple[str, ...]] = {
    "vllm": (
        "max_concurrency",
        "kv_cache_gib",
        "block_size",
        "gpu_memory_utilization",
        "tensor_parallel_size",
        "enforce_eager",
    ),
    "transformers": ("max_concurrency",),
    "scripted": (),
}
"""The nullable engine settings that each engine reads."""


@dataclass
class EngineConfig:
    """The engine group."""

    name: str = one_of("vllm", "vllm", "transformers", "scripted")
    """`vllm` in process, `transformers` for checking, `scripted` to run without a model."""
    placement: str = one_of("colocated", "colocated")
    """Where the engine lives relative to training: in the same process on the same device."""
    max_concurrency: int | None = ruled(None, at_least=1)
    """Most requests sampled in one batch; null for `scripted`, which has no batch."""
    kv_cache_gib: float | None = ruled(None, above=0)
    """vLLM on the CPU: memory for the KV cache, GiB."""
    block_size: int | None = ruled(None, at_least=1)
    """vLLM: tokens in a KV block; smaller blocks reuse more of a shared prefix. Null: vLLM's choice."""
    gpu_memory_utilization: float | None = ruled(None, above=0, below=1)
    """vLLM on a GPU: share of its memory for weights and KV cache; the rest is for training."""
    tensor_parallel_size: int | None = ruled(None, at_least=1)
    """vLLM on GPUs: devices that one copy of the model is spread over."""
    enforce_eager: bool | None = None
    """vLLM: skip compilation, for a quick start."""


def check_engine(engine: EngineConfig, device: str) -> None:
    """Refuse settings that the named engine would not read on this device.

    Raises:
        ConfigError: a setting that would be ignored, or one that is missing.
    """
    readable = _KNOBS[engine.name]
    for knob in _KNOBS["vllm"]:
        if knob not in readable and getattr(engine, knob) is not None:
            owners = [name for name, knobs in _KNOBS.items() if knob in knobs]
            raise ConfigError(
                f"engine.{knob} has no effect with engine={engine.name}: drop it or choose engine={'|'.join(owners)}"
            )
    if "max_concurrency" in readable and engine.max_concurrency is None:
        raise ConfigError(f"engine={engine.name} needs engine.max_concurrency, e.g. 64")
    if engine.name == "vllm":
        _check_vllm(engine, device)


def _check_vllm(engine: EngineConfig, device: str) -> None:
    if device == "cpu":
        for knob in ("gpu_memory_utilization", "tensor_parallel_size"):
            if getattr(engine, knob) is not None:
                raise ConfigError(
                    f"engine.{knob} has no effect with hardware.device=cpu: choose engine=vllm or hardware=gpu1"
                )
        if engine.kv_cache_gib is None:
            raise ConfigError("engine=vllm on the CPU needs engine.kv_cache_gib, e.g. 1")
        return
    if engine.kv_cache_gib is not None:
        raise ConfigError(
            "engine.kv_cache_gib has no effect with hardware.device=cuda: choose engine=vllm_gpu, "
            "which takes engine.gpu_memory_utilization"
        )
    if engine.gpu_memory_utilization is None:
        raise ConfigError("engine=vllm on a GPU needs engine.gpu_memory_utilization, e.g. 0.4")
