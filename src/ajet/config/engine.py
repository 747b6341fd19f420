"""What samples tokens. Settings that the named engine does not have stay null."""

from __future__ import annotations

from dataclasses import dataclass

from ajet.config.fields import one_of, ruled


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
