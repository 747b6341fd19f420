"""`engine=transformers`: a plain decoding loop around any Hugging Face causal language model.

Slower than vLLM, and easy to check. Its configuration is in `transformers`, apart because this module loads torch.

In: sampling requests. Out: completions. All running requests share one left-padded KV cache; new ones are
prefilled together and join at the next step, finished ones leave it. Models in which a token depends on others through
more than masks (a state, a bias by place) are computed anew from each text's start, an id at a time: slow, and right.
Left out on purpose: prefix caching.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import DynamicCache

from ajet.engine.base import SamplingRequest, checked_weights
from ajet.engine.checkpoint import load_causal_lm
from ajet.engine.families import why_not_by_masks
from ajet.engine.grammars import ReplyMatcher, TokenGrammars, everything, masked, token_grammars
from ajet.engine.stepped import SteppedEngine
from ajet.engine.transformers import TransformersConfig
from ajet.errors import EngineError
from ajet.records import Completion, FinishReason

if TYPE_CHECKING:
    from torch import Tensor

MAX_PREFILL_TOKENS = 8192
"""Most tokens, padding included, in one prefill; a longer prompt is prefilled alone."""


_Layers = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of each layer, (B, heads, T, head size), every row's tokens at the right end of T."""


@dataclass(slots=True, kw_only=True)
class _Row:
    """One running request."""

    key: int
    request: SamplingRequest
    max_tokens: int
    rng: random.Random
    matcher: ReplyMatcher | None
    """What may come next, under a grammar."""
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    @property
    def finish_reason(self) -> FinishReason | None:
        if self.ids and self.ids[-1] in self.request.stop_ids:
            return "stop"
        return "length" if len(self.ids) == self.max_tokens else None

    @property
    def num_cached(self) -> int:
        """Tokens in the KV cache: the prompt and all sampled ids but the last, which is the next input."""
        return len(self.request.prompt_ids) + len(self.ids) - 1


class TransformersEngine(SteppedEngine):
    """Batched temperature sampling with transformers.

    Args:
        config: the engine's settings.
        model_path: a Hugging Face checkpoint directory or hub id; its tokenizer is read for grammars alone.
        max_context: most tokens of prompt and completion together.
        dtype: of weights and KV cache, a torch dtype's name. Probabilities are float32 whatever it is.
        device: a torch device.
        num_threads: torch threads while stepping; None keeps the caller's.
    """

    def __init__(
        self,
        config: TransformersConfig,
        model_path: str,
        *,
        max_context: int,
        dtype: str = "float32",
        device: str = "cpu",
        num_threads: int | None = None,
    ) -> None:
        super().__init__(max_context=max_context, num_threads=num_threads)
        self._device = torch.device(device)
        self._model = load_causal_lm(model_path, getattr(torch, dtype), max_context=max_context)
        self._model.to(self._device).eval()
        text_config = self._model.config.get_text_config()
        self._caches = why_not_by_masks(text_config) is None
        self._vocab_size: int = text_config.vocab_size
        self._model_path = model_path
        self._max_concurrency = config.max_concurrency
        self._queue: deque[_Row] = deque()
        self._rows: list[_Row] = []
        self._cache = DynamicCache()

    @cached_property
    def _grammars(self) -> TokenGrammars:
        return token_grammars(self._model_path)

    def _load(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        parameters = dict(self._model.named_parameters())
        with torch.no_grad():
            for name, tensor in checked_weights(weights, self._model):
                parameters[name].copy_(tensor)

    def close(self) -> None:
        """Free the model and the cache."""
        super().close()
        self._model, self._cache = None, DynamicCache()

    def _add(self, key: int, request: SamplingRequest, max_tokens: int) -> None:
        if not 0 <= min(request.prompt_ids) <= max(request.prompt_ids) < self._vocab_size:
            raise EngineError(f"the prompt has a token id outside the vocabulary of {self._vocab_size}")
        rng = random.Random(request.seed % 2**63)
        matcher = self._grammars.reply(request.grammar, request.stop_ids) if request.grammar else None
        self._queue.append(_Row(key=key, request=request, max_tokens=max_tokens, rng=rng, matcher=matcher))

    def _abort(self, key: int) -> None:
        self._queue = deque(row for row in self._queue if row.key != key)
        self._keep([row.key != key for row in self._rows])

    @torch.inference_mode()
    def _step(self) -> list[tuple[int, Completion]]:
        if not self._caches:
            self._rows = self._rows + self._admit()
            for row in self._rows:
                self._recompute(row)
        else:
            if self._rows:
                self._decode()
            if new_rows := self._admit():
                self._prefill(new_rows)
        finished = [(row.key, self._completion(row)) for row in self._rows if row.finish_reason]
        self._keep([row.finish_reason is None for row in self._rows])
        return finished

    def _admit(self) -> list[_Row]:
        """Take from the queue what concurrency and the prefill's size allow."""
        admitted: list[_Row] = []
        longest = 0
        while self._queue and len(self._rows) + len(admitted) < self._max_concurrency:
            longest = max(longest, len(self._queue[0].request.prompt_ids))
            if admitted and longest * (len(admitted) + 1) > MAX_PREFILL_TOKENS:
                break
            admitted.append(self._queue.popleft())
        return admitted

    def _prefill(self, rows: list[_Row]) -> None:
        """Run new prompts, sample their first ids, and let them join the running rows."""
        prompts = [row.request.prompt_ids for row in rows]
        length = max(map(len, prompts))
        # Padded on the right, behind the causal mask's reach, so that no position attends to nothing.
        input_ids_BT = torch.tensor([[*prompt, *[0] * (length - len(prompt))] for prompt in prompts])
        last_positions = sorted({len(prompt) - 1 for prompt in prompts})
        output = self._model(
            input_ids=input_ids_BT.to(self._device),
            past_key_values=DynamicCache(),
            use_cache=True,
            logits_to_keep=torch.tensor(last_positions, device=self._device),
        )
        kept = [last_positions.index(len(prompt) - 1) for prompt in prompts]
        self._sample(rows, output.logits[range(len(rows)), kept])
        layers = [
            (_right_aligned(keys, prompts), _right_aligned(values, prompts))
            for keys, values in _layers(output.past_key_values)
        ]
        self._cache = DynamicCache(_joined(_layers(self._cache), layers) if self._rows else layers)
        self._rows = self._rows + rows

    def _recompute(self, row: _Row) -> None:
        """Sample a row's next id from its whole text."""
        text = torch.tensor([[*row.request.prompt_ids, *row.ids]], device=self._device)
        self._sample([row], self._model(input_ids=text, use_cache=False, logits_to_keep=1).logits[:, -1])

    def _decode(self) -> None:
        """Feed every running row its last id and sample the next."""
        num_cached = [row.num_cached for row in self._rows]
        cached_length = self._cache.get_seq_length()
        positions_B1 = torch.tensor(num_cached, device=self._device)[:, None]
        columns_T = torch.arange(cached_length + 1, device=self._device)
        output = self._model(
            input_ids=torch.tensor([row.ids[-1:] for row in self._rows], device=self._device),
            attention_mask=(columns_T >= cached_length - positions_B1).long(),
            position_ids=positions_B1,
            past_key_values=self._cache,  # grows in place
            use_cache=True,
        )
        self._sample(self._rows, output.logits[:, -1])

    def _sample(self, rows: list[_Row], logits_BV: Tensor) -> None:
        """Append one id to each row: the inverse of its distribution at its own generator's next number."""
        temperatures_B1 = torch.tensor([[row.request.temperature] for row in rows], device=self._device)
        logprobs_BV = torch.log_softmax(_allowed(logits_BV.float() / temperatures_B1, rows), dim=-1)
        cumulative_BV = logprobs_BV.double().exp().cumsum(dim=-1)
        draws_B1 = torch.tensor([[row.rng.random()] for row in rows], dtype=torch.float64).to(self._device)
        ids_B1 = torch.searchsorted(cumulative_BV, draws_B1 * cumulative_BV[:, -1:], right=True)
        ids_B1 = ids_B1.clamp(max=logprobs_BV.shape[-1] - 1)
        sampled = zip(ids_B1[:, 0].tolist(), logprobs_BV.gather(1, ids_B1)[:, 0].tolist(), strict=True)
        for row, (token_id, logprob) in zip(rows, sampled, strict=True):
            row.ids.append(token_id)
            row.logprobs.append(logprob)
            if row.matcher is not None:
                row.matcher.accept(token_id)

    def _keep(self, kept: Sequence[bool]) -> None:
        """Drop the other rows, and the columns that only they filled."""
        if all(kept):
            return
        self._rows = [row for row, keep in zip(self._rows, kept, strict=True) if keep]
        if not self._rows or not self._caches:
            self._cache = DynamicCache()
            return
        length = max(row.num_cached for row in self._rows)
        kept_B = torch.tensor(kept, device=self._device)
        self._cache = DynamicCache(
            [(keys[kept_B, :, -length:], values[kept_B, :, -length:]) for keys, values in _layers(self._cache)]
        )

    def _completion(self, row: _Row) -> Completion:
        assert row.finish_reason is not None
        return Completion(
            token_ids=tuple(row.ids),
            logprobs=tuple(row.logprobs),
            finish_reason=row.finish_reason,
            policy_version=self.policy_version,
        )


def _allowed(logits_BV: Tensor, rows: Sequence[_Row]) -> Tensor:
    """The logits without those that a row's grammar forbids."""
    if all(row.matcher is None for row in rows):
        return logits_BV
    words = [everything(logits_BV.shape[-1]) if row.matcher is None else row.matcher.allowed() for row in rows]
    return masked(logits_BV, torch.from_numpy(np.stack(words)).to(logits_BV.device))


def _layers(cache: Any) -> _Layers:
    return [(layer.keys, layer.values) for layer in cache.layers]


def _right_aligned(padded_BHTD: Tensor, prompts: Sequence[Sequence[int]]) -> Tensor:
    """Move each row's padding from its right to its left."""
    length = padded_BHTD.shape[-2]
    rows = zip(padded_BHTD, prompts, strict=True)
    return torch.stack([row_HTD.roll(length - len(prompt), dims=-2) for row_HTD, prompt in rows])


def _joined(first: _Layers, second: _Layers) -> _Layers:
    """Stack two caches, the shorter one padded on the left."""
    length = max(first[0][0].shape[-2], second[0][0].shape[-2])

    def padded(tensor: Tensor) -> Tensor:
        return torch.nn.functional.pad(tensor, (0, 0, length - tensor.shape[-2], 0))

    return [
        (torch.cat([padded(keys_1), padded(keys_2)]), torch.cat([padded(values_1), padded(values_2)]))
        for (keys_1, values_1), (keys_2, values_2) in zip(first, second, strict=True)
    ]
