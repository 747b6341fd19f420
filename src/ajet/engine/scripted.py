"""A model without a model: a seeded random bigram softmax in numpy that keeps the whole engine contract.

In: sampling requests. Out: completions with real log-probabilities, at once. It tests the plumbing around
an engine in milliseconds. Left out on purpose: learning. Weights are counted, not used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ajet.config.fields import named
from ajet.engine.base import EngineConfig, EngineNeeds, SamplingRequest
from ajet.errors import EngineError
from ajet.records import Completion, FinishReason

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

LOGIT_SCALE = 2.0
"""Standard deviation of the logits: far from uniform, and no id is out of reach."""


@dataclass
class ScriptedConfig(EngineConfig):
    """Random tokens without a model, for trying out everything around it."""

    name: str = named("scripted")

    def build(self, needs: EngineNeeds) -> ScriptedEngine:
        """An engine with the ids of the model's tokenizer; the weights are not read."""
        from transformers import AutoTokenizer

        vocab_size = len(AutoTokenizer.from_pretrained(needs.model_path))
        return ScriptedEngine(vocab_size, max_context=needs.max_context, seed=0)


class ScriptedEngine:
    """Samples each id from a softmax over the row of the previous id.

    Args:
        vocab_size: number of ids, V.
        max_context: most tokens of prompt and completion together.
        seed: of the V x V logits.
    """

    def __init__(self, vocab_size: int, *, max_context: int, seed: int = 0) -> None:
        self.max_context = max_context
        self.policy_version = 0
        self._vocab_size = vocab_size
        self._seed = seed

    def log_distribution(self, previous_id: int, temperature: float) -> np.ndarray:
        """Log-probabilities of the next id, shape (V,), after temperature.

        Raises:
            EngineError: `previous_id` is not in the vocabulary.
        """
        import numpy as np  # not above: the configuration is loaded by `--help`, too

        if not 0 <= previous_id < self._vocab_size:
            raise EngineError(f"token id {previous_id} is outside the vocabulary of {self._vocab_size}")
        # A row is drawn when it is needed: all of them would not fit for a real model's vocabulary.
        row = np.random.default_rng((self._seed, previous_id)).standard_normal(self._vocab_size)
        logits_V = LOGIT_SCALE * row / temperature
        logits_V = logits_V - logits_V.max()
        log_distribution_V: np.ndarray = logits_V - np.log(np.exp(logits_V).sum())
        return log_distribution_V

    async def generate(self, request: SamplingRequest) -> Completion:
        """See `Engine.generate`."""
        import numpy as np

        max_tokens = request.budget(self.max_context)
        # One turn of the loop, as every engine takes: concurrent agents interleave, cancelling works.
        await asyncio.sleep(0)
        rng = np.random.default_rng(request.seed % 2**63)
        ids: list[int] = []
        logprobs: list[float] = []
        previous_id = request.prompt_ids[-1]
        finish_reason: FinishReason = "length"
        while len(ids) < max_tokens and finish_reason == "length":
            log_distribution_V = self.log_distribution(previous_id, request.temperature)
            cumulative_V = np.exp(log_distribution_V).cumsum()
            drawn = np.searchsorted(cumulative_V, rng.random() * cumulative_V[-1], side="right")
            previous_id = min(int(drawn), len(cumulative_V) - 1)
            ids.append(previous_id)
            logprobs.append(float(log_distribution_V[previous_id]))
            if previous_id in request.stop_ids:
                finish_reason = "stop"
        return Completion(
            token_ids=tuple(ids),
            logprobs=tuple(logprobs),
            finish_reason=finish_reason,
            policy_version=self.policy_version,
        )

    def update_weights(self, weights: Iterable[tuple[str, Tensor]], policy_version: int) -> None:
        """Count the update; there are no weights to replace."""
        self.policy_version = policy_version

    def close(self) -> None:
        """Nothing is held."""
