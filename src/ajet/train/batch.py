"""Groups of episodes -> minibatches of packs, with every count of what was left out.

In: the groups of one step. Out: a `TrainingBatch`. The order is DESIGN §2's: advantages, samples, weights, packs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ajet.records import EpisodeGroup, TrainingSample
from ajet.train.algorithms.advantages import AdvantageKind, BaselineScope, GroupAdvantages, group_advantages
from ajet.train.algorithms.aggregation import BatchTotals, LossKind, batch_totals, token_weights
from ajet.train.algorithms.filters import drop_zero_advantage
from ajet.train.clock import PhaseClock
from ajet.train.packing import Pack, build_packs
from ajet.train.timeline import build_samples

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSettings:
    """How a batch is made, from `algorithm.*`."""

    loss: LossKind
    advantage: AdvantageKind
    baseline_per: BaselineScope
    format_penalty: float
    num_minibatches: int
    max_pack_tokens: int
    branching_packs: bool
    """Whether the model computes packs that branch exactly (`train/attention.py`)."""
    dr_grpo_max_length: int | None
    keep_zero_advantage: bool
    """Whether rows without advantage still have a gradient (a KL penalty)."""
    sum_over_ranks: Callable[[BatchTotals], BatchTotals]
    """Adds this rank's totals up with the others'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingBatch:
    """What one step trains on."""

    minibatches: list[list[Pack]]
    """Packs by optimizer step."""
    tags: tuple[str, ...]
    """The tags that packs point into."""
    advantages: Mapping[tuple[str, int, str], float]
    """By (task_id, repeat, agent name), for the trajectory store."""
    metrics: dict[str, float]


def build_batch(groups: Sequence[EpisodeGroup], settings: BatchSettings, clock: PhaseClock) -> TrainingBatch:
    """Credit, cut and pack one step's groups."""
    with clock.phase("advantage"):
        credited = [
            group_advantages(
                group,
                settings.advantage,
                format_penalty=settings.format_penalty,
                baseline_per=settings.baseline_per,
            )
            for group in groups
        ]
    with clock.phase("pack"):
        chunks = _chunks(list(zip(groups, credited, strict=True)), settings.num_minibatches)
        samples = [[row for group, credit in chunk for row in _rows(group, credit)] for chunk in chunks]
        tags = tuple(sorted({row.target_tag for rows in samples for row in rows}))
        minibatches = [_packs(rows, tags, settings) for rows in samples]
    advantages = {
        (group.task.task_id, repeat, agent): value
        for group, credit in zip(groups, credited, strict=True)
        for (repeat, agent), value in credit.values.items()
    }
    metrics = _credit_metrics(credited) | _token_metrics(samples, minibatches)
    return TrainingBatch(minibatches=minibatches, tags=tags, advantages=advantages, metrics=metrics)


def _chunks(items: list[T], num: int) -> list[list[T]]:
    size = -(-len(items) // num)
    return [items[i * size : (i + 1) * size] for i in range(num)]


def _rows(group: EpisodeGroup, credit: GroupAdvantages) -> list[TrainingSample]:
    rows: list[TrainingSample] = []
    for episode in group.episodes:
        if episode.usable:
            by_agent = {name: credit.values[episode.repeat, name] for name in episode.rewards}
            rows += build_samples(episode, by_agent)
    return rows


def _packs(rows: list[TrainingSample], tags: tuple[str, ...], settings: BatchSettings) -> list[Pack]:
    totals = settings.sum_over_ranks(batch_totals(rows))
    kept = rows if settings.keep_zero_advantage else drop_zero_advantage(rows)
    weights = dict(
        zip(
            map(id, rows),
            token_weights(rows, settings.loss, totals, max_length=settings.dr_grpo_max_length),
            strict=True,
        )
    )
    return build_packs(
        kept,
        [weights[id(row)] for row in kept],
        tags,
        max_tokens=settings.max_pack_tokens,
        branches=settings.branching_packs,
    )


def _credit_metrics(credited: Sequence[GroupAdvantages]) -> dict[str, float]:
    """`advantage/<tag>/abs_mean` over agents and episodes, and shares of groups that teach nothing."""
    metrics: dict[str, float] = {}
    for tag in sorted({tag for credit in credited for tag in credit.tags}):
        having = [credit for credit in credited if tag in credit.tags]
        values = [abs(value) for credit in having for value in credit.by_tag[tag]]
        mean = sum(values) / len(values)
        if math.isfinite(mean):  # what is not is counted where its update is skipped
            metrics[f"advantage/{tag}/abs_mean"] = mean
        metrics[f"group/{tag}/zero_std_fraction"] = sum(tag in c.zero_std_tags for c in having) / len(having)
        metrics[f"group/{tag}/singleton_fraction"] = sum(tag in c.singleton_tags for c in having) / len(having)
    return metrics


def _token_metrics(samples: Sequence[Sequence[TrainingSample]], packs: Sequence[Sequence[Pack]]) -> dict[str, float]:
    unique = sum(len(pack.token_ids) for minibatch in packs for pack in minibatch)
    merged = sum(pack.num_row_tokens for minibatch in packs for pack in minibatch)
    return {
        "tokens/trained": float(sum(len(pack.targets) for minibatch in packs for pack in minibatch)),
        "tokens/zero_advantage": float(sum(sum(r.loss_mask) for rows in samples for r in rows if r.advantage == 0)),
        "tokens/rows": float(merged),
        "tokens/unique": float(unique),
        "tokens/merge_ratio": merged / unique if unique else 1.0,
        "batch/packs": float(sum(len(minibatch) for minibatch in packs)),
    }
