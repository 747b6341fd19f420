"""The settings of `engine=vllm`; `vllm_engine` has the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from typing_extensions import override

from ajet.config.fields import named, ruled
from ajet.engine.base import Adapters, Engine, EngineNeeds
from ajet.engine.vllm_settings import VllmBaseConfig
from ajet.errors import ConfigError

if TYPE_CHECKING:
    from ajet.engine.vllm_engine import VllmEngine

DROPS_WEIGHTS = 2
"""The level of vLLM's sleep."""


@dataclass
class VllmConfig(VllmBaseConfig):
    """vLLM in process; `engine=vllm_gpu` is the same engine as it fits a GPU."""

    name: str = named("vllm")
    sleep_level: int | None = ruled(None, at_least=1, at_most=2)
    """On a GPU: what vLLM frees while this process trains. 1: the KV cache, and its weights go to the CPU's memory;
    2: weights are dropped, too, for an update brings all of them. Null: nothing."""

    @override
    def why_merged(self, adapters: Adapters) -> str | None:
        if self.sleep_level == DROPS_WEIGHTS:
            return f"engine.sleep_level={self.sleep_level} drops the starting model's weights, 1 keeps them"
        return super().why_merged(adapters)

    @override
    def check(self, *, device: str, temperature: float) -> None:
        super().check(device=device, temperature=temperature)
        if device == "cpu" and self.sleep_level is not None:
            raise ConfigError(
                f"engine.sleep_level={self.sleep_level} has no effect with hardware.device=cpu: leave it out"
            )

    @override
    def check_second(self, *, opponent: str) -> None:
        if self.sleep_level is not None:
            raise ConfigError(
                f"opponent={opponent} needs an engine of its own, and of two in a process none can sleep: set "
                "engine.sleep_level=null, or model.lora and engine.lora=adapters, which need no second one"
            )

    @override
    def sleeper(self, engine: Engine) -> Callable[[], None]:
        if self.sleep_level is None:
            return super().sleeper(engine)
        from ajet.engine.vllm_engine import VllmEngine

        assert isinstance(engine, VllmEngine)
        return engine.sleep

    @override
    def build(self, needs: EngineNeeds) -> VllmEngine:
        """vLLM finds its device itself."""
        from ajet.engine.vllm_engine import VllmEngine

        return VllmEngine(
            self,
            needs.model_path,
            max_context=needs.max_context,
            dtype=needs.dtype,
            num_threads=needs.num_threads,
            adapters=needs.adapters,
            grammars=needs.grammars,
        )
