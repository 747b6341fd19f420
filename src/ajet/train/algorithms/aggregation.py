"""How token losses add up to a batch's loss: one weight a sampled token. Pure.

loss = sum over sampled tokens of weight * token loss. A *sequence* is what one tag did in one episode, however many
agents, calls and rows it is cut into, so cutting changes no weight. `grpo`: mean over sequences of token means. `dapo`
(Yu et al. 2025): mean over all tokens of the global batch. `dr_grpo` (Liu et al. 2025): sum over
sequences x a constant length.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ajet.records import TrainingSample

LossKind = Literal["grpo", "dapo", "dr_grpo"]
SequenceKey = tuple[str, int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTotals:
    """Sizes of a batch; those of several ranks add up."""

    num_sequences: int
    num_tokens: int
    """Sampled tokens."""


def sequence_key(sample: TrainingSample) -> SequenceKey:
    """(task_id, repeat, target_tag) of the sequence that a row belongs to."""
    return (*sample.episode_key, sample.target_tag)


def batch_totals(samples: Sequence[TrainingSample]) -> BatchTotals:
    """The sizes of these samples."""
    return BatchTotals(
        num_sequences=len({sequence_key(sample) for sample in samples}),
        num_tokens=sum(sum(sample.loss_mask) for sample in samples),
    )


def token_weights(
    samples: Sequence[TrainingSample], kind: LossKind, totals: BatchTotals, *, max_length: int | None = None
) -> list[float]:
    """The weight of each sampled token of each row (the same for all tokens of a row).

    Args:
        samples: this rank's rows, whole sequences.
        kind: the aggregation.
        totals: of the global batch, all ranks and minibatches of one optimizer step together.
        max_length: the constant length of `dr_grpo`, in sampled tokens.
    """
    lengths: Counter[SequenceKey] = Counter()
    for sample in samples:
        lengths[sequence_key(sample)] += sum(sample.loss_mask)
    if kind == "grpo":
        return [1.0 / (totals.num_sequences * lengths[sequence_key(sample)]) for sample in samples]
    if kind == "dapo":
        return [1.0 / totals.num_tokens] * len(samples)
    assert max_length is not None, "dr_grpo needs its constant length"
    return [1.0 / (totals.num_sequences * max_length)] * len(samples)
