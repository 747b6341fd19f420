"""The settings of `engine=transformers`; `transformers_engine` has the engine, apart because it loads torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

from ajet.config.fields import named, ruled
from ajet.engine.base import EngineConfig, EngineNeeds

if TYPE_CHECKING:
    from ajet.engine.transformers_engine import TransformersEngine


@dataclass
class TransformersConfig(EngineConfig):
    """transformers' own sampling: slow, for checking."""

    name: str = named("transformers")
    max_concurrency: int = ruled(64, at_least=1)
    """Most requests sampled in one batch; further ones wait."""

    follows_grammars: ClassVar[bool] = True

    @override
    def build(self, needs: EngineNeeds) -> TransformersEngine:
        from ajet.engine.transformers_engine import TransformersEngine

        return TransformersEngine(
            self,
            needs.model_path,
            max_context=needs.max_context,
            dtype=needs.dtype,
            device=needs.device,
            num_threads=needs.num_threads,
        )
