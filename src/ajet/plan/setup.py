"""A configuration -> the settings that decide memory, and the other way round: settings that need less."""

from __future__ import annotations

from ajet.config.adapters import engine_adapters, engine_keeps_start
from ajet.config.hardware import rank_and_size
from ajet.config.root import Config
from ajet.plan.parts import FLOAT32, Setup

DTYPE_BYTES = {"float32": 4, "bfloat16": 2}


def setup_of(config: Config, *, gpu_memory_gib: float | None = None) -> Setup:
    """What of a configuration decides memory. Settings that only some engines have are read where they are there.

    Args:
        config: validated.
        gpu_memory_gib: of the GPU that it runs on, if there is one to ask.
    """
    engine = config.engine
    at_once = min(config.rollout.concurrency, getattr(engine, "max_concurrency", config.rollout.concurrency))
    packed, context = config.algorithm.max_pack_tokens, config.model.max_context
    return Setup(
        device=config.hardware.device,
        engine=engine.name,
        dtype_bytes=DTYPE_BYTES.get(config.model.dtype, FLOAT32),
        kv_cache_gib=getattr(engine, "kv_cache_gib", None),
        gpu_memory_utilization=getattr(engine, "gpu_memory_utilization", None),
        gpu_memory_gib=gpu_memory_gib,
        num_sequences=at_once,
        max_context=context,
        num_engines=2 if config.opponent.needs_engine and not engine_keeps_start(config) else 1,
        engine_sleeps=getattr(engine, "sleep_level", None) is not None,
        merges_adapters=engine_adapters(config) is None,
        has_reference=config.algorithm.kl_coef > 0 and not config.model.lora.rank,
        mixed_precision=config.hardware.mixed_precision != "no",
        gradient_checkpointing=config.hardware.gradient_checkpointing,
        offload_optimizer=config.hardware.offload_optimizer,
        num_shards=rank_and_size()[1] if config.hardware.data_parallel == "fsdp" else 1,
        # A row that is longer than a pack may be has one of its own, without branches.
        pack_tokens=max(packed, context),
        branching_tokens=packed,
        blocks_from=config.hardware.blocks_from(packed),
    )
