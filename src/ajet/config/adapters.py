"""Whether a run's adapters reach its engine as adapters, or added up into the weights.

In: a configuration. Out: what an engine is built for. Where it takes adapters it samples with the starting model's
weights as well, so that a frozen opponent needs no engine of its own.
"""

from __future__ import annotations

from ajet.config.root import Config, PlayConfig
from ajet.engine.base import Adapters


def engine_adapters(config: Config) -> Adapters | None:
    """What the engine of a training run is built for; None for whole weights."""
    adapters = _adapters(config)
    return None if adapters is None or config.engine.why_merged(adapters) is not None else adapters


def why_merged(config: Config) -> str | None:
    """Why the engine does not get adapters though it wants them, in words; None where it does, or wants none."""
    adapters = _adapters(config)
    return None if adapters is None else config.engine.why_merged(adapters)


def engine_keeps_start(config: Config) -> bool:
    """Whether the policy's engine samples with the starting model's weights whenever it is asked to: beside adapters,
    since there are no others, or because its server has both."""
    return isinstance(config, PlayConfig) or config.engine.trains or engine_adapters(config) is not None


def _adapters(config: Config) -> Adapters | None:
    """Those that are trained, if the engine wants them."""
    lora = config.model.lora
    if not config.engine.wants_adapters or not lora.rank or lora.alpha is None or not lora.targets:
        return None
    return Adapters(rank=lora.rank, alpha=lora.alpha, targets=tuple(lora.targets))
