"""The settings of `engine=transformers`; `transformers_engine` has the engine, apart because it loads torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

from ajet.config.fields import named, ruled
from ajet.engine.base import Adapters, EngineConfig

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
    def build(
        self,
        *,
        model_path: str,
        max_context: int,
        dtype: str,
        device: str,
        num_threads: int | None,
        adapters: Adapters | None = None,
        grammars: bool = False,
    ) -> TransformersEngine:
        from ajet.engine.transformers_engine import TransformersEngine

        return TransformersEngine(
            self, model_path, max_context=max_context, dtype=dtype, device=device, num_threads=num_threads
        )
