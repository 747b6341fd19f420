"""How token losses add up to a batch's loss: one weight a sampled token. Pure.

loss = sum over sampled tokens of weight * token loss. A *sequence* is what one tag did in one episode, however many
agents, calls and rows it is cut into, so cutting changes no weight. What a weight is, `aggregations/` says.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ajet.records import CallKey, TrainingSample

SequenceKey = tuple[str, int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTotals:
    """Sizes of a batch; those of several ranks add up.

    They count every row of an optimizer step, those without advantage included: leaving out what has no gradient must
    not make the rest weigh more.
    """

    num_sequences: int
    num_tokens: int
    """Sampled tokens."""
    tokens_by_tag: Mapping[str, int] = field(default_factory=dict)
    """Of these, by `target_tag`; a tag without any is left out."""
    num_tag_tokens: int = 0
    """Of these, those of the tag whose sequence is weighed."""

    @property
    def num_tags(self) -> int:
        """That have sampled tokens."""
        return len(self.tokens_by_tag)


Aggregation = Callable[[int, BatchTotals], float]
"""(a sequence's length in sampled tokens, the totals of its batch) -> the weight of each of the sequence's tokens."""


def sequence_key(sample: TrainingSample) -> SequenceKey:
    """(task_id, repeat, target_tag) of the sequence that a row belongs to."""
    return (*sample.episode_key, sample.target_tag)


def batch_totals(samples: Sequence[TrainingSample]) -> BatchTotals:
    """The sizes of these samples."""
    by_tag: Counter[str] = Counter()
    for sample in samples:
        by_tag[sample.target_tag] += sum(sample.loss_mask)
    return BatchTotals(
        num_sequences=len({sequence_key(sample) for sample in samples}),
        num_tokens=by_tag.total(),
        tokens_by_tag={tag: count for tag, count in sorted(by_tag.items()) if count},
    )


def token_weights(samples: Sequence[TrainingSample], aggregation: Aggregation, totals: BatchTotals) -> list[float]:
    """The weight of each sampled token of each row (the same for all tokens of a row).

    Args:
        samples: this rank's rows, whole sequences.
        aggregation: what a weight is.
        totals: of the global batch, all ranks of one optimizer step together.
    """
    lengths: Counter[SequenceKey] = Counter()
    for sample in samples:
        lengths[sequence_key(sample)] += sum(sample.loss_mask)
    by_tag = {tag: replace(totals, num_tag_tokens=count) for tag, count in totals.tokens_by_tag.items()}
    weights = {key: aggregation(length, by_tag.get(key[-1], totals)) for key, length in lengths.items()}
    return [weights[sequence_key(sample)] for sample in samples]


def call_weights(samples: Sequence[TrainingSample], totals: BatchTotals) -> dict[CallKey, float]:
    """The weight of each call in what a batch says of calls: a mean over sequences of the mean over their agents of the
    mean over each agent's calls, whatever the aggregation of tokens.

    Args:
        samples: whole sequences.
        totals: of the global batch.
    """
    calls: dict[SequenceKey, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for sample in samples:
        calls[sequence_key(sample)][sample.agent_name].update(index for index in sample.calls if index >= 0)
    return {
        (task_id, repeat, index): 1 / (totals.num_sequences * len(agents) * len(of_agent))
        for (task_id, repeat, _), agents in calls.items()
        for of_agent in agents.values()
        for index in of_agent
    }
