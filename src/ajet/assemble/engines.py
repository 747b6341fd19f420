"""The config's engine group -> an engine with the model's weights in it."""

from __future__ import annotations

from transformers import AutoTokenizer

from ajet.config.root import Config
from ajet.engine.base import Engine


def make_engine(config: Config, model_path: str) -> Engine:
    """The configured engine with the model's weights; loads it."""
    if config.engine.name == "scripted":
        return _scripted(config, model_path)
    if config.engine.name == "transformers":
        return _transformers(config, model_path)
    return _vllm(config, model_path)


def _scripted(config: Config, model_path: str) -> Engine:
    from ajet.engine.scripted import ScriptedEngine

    return ScriptedEngine(len(AutoTokenizer.from_pretrained(model_path)), max_context=config.model.max_context, seed=0)


def _transformers(config: Config, model_path: str) -> Engine:
    from ajet.engine.transformers import TransformersEngine

    assert config.engine.max_concurrency is not None
    return TransformersEngine(
        model_path,
        max_context=config.model.max_context,
        max_concurrency=config.engine.max_concurrency,
        dtype=config.model.dtype,
        device=config.hardware.device,
        num_threads=config.hardware.sampling_threads,
    )


def _vllm(config: Config, model_path: str) -> Engine:
    from ajet.engine.vllm import VllmEngine

    engine = config.engine
    assert engine.max_concurrency is not None
    return VllmEngine(
        model_path,
        max_context=config.model.max_context,
        max_concurrency=engine.max_concurrency,
        dtype=config.model.dtype,
        kv_cache_gib=engine.kv_cache_gib,
        block_size=engine.block_size,
        num_threads=config.hardware.sampling_threads,
        enforce_eager=engine.enforce_eager is not False,
        gpu_memory_utilization=engine.gpu_memory_utilization or 0.5,
        tensor_parallel_size=engine.tensor_parallel_size or 1,
    )
