"""What an engine needs of the run, beside its own settings."""

from __future__ import annotations

from ajet.config.root import Config
from ajet.engine.base import Engine


def make_engine(config: Config, model_path: str) -> Engine:
    """The configured engine with the model's weights; loads it."""
    return config.engine.build(
        model_path=model_path,
        max_context=config.model.max_context,
        dtype=config.model.dtype,
        device=config.hardware.device,
        num_threads=config.hardware.sampling_threads,
    )
