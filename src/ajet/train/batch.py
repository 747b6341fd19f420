"""Groups of episodes -> minibatches of packs, with every count of what was left out.

In: the groups of one step. Out: a `TrainingBatch`. The order is DESIGN §2's: advantages, samples, weights, packs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ajet.config.algorithm import AlgorithmConfig
from ajet.records import EpisodeGroup, TrainingSample
from ajet.train.algorithms.advantages import GroupAdvantages, group_advantages
from ajet.train.algorithms.aggregation import BatchTotals, batch_totals, token_weights
from ajet.train.clock import PhaseClock
from ajet.train.packing import Pack, build_packs
from ajet.train.timeline import build_samples

T = TypeVar("T")


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


def build_batch(
    groups: Sequence[EpisodeGroup],
    algorithm: AlgorithmConfig,
    clock: PhaseClock,
    *,
    branching_packs: bool,
    sum_over_ranks: Callable[[BatchTotals], BatchTotals],
) -> TrainingBatch:
    """Credit, cut and pack one step's groups.

    Args:
        groups: this rank's, in the order in which they are cut into minibatches.
        algorithm: baselines, aggregation, minibatches and packs.
        clock: takes the time.
        branching_packs: whether the model computes packs that branch exactly (`train/attention.py`).
        sum_over_ranks: adds this rank's totals up with the others'.
    """
    with clock.phase("advantage"):
        credited = [
            group_advantages(
                group,
                algorithm.advantage,  # type: ignore[arg-type]
                format_penalty=algorithm.format_penalty,
                baseline_per=algorithm.baseline_per,  # type: ignore[arg-type]
            )
            for group in groups
        ]
    with clock.phase("pack"):
        chunks = _chunks(list(zip(groups, credited, strict=True)), algorithm.num_minibatches)
        samples = [[row for group, credit in chunk for row in _rows(group, credit)] for chunk in chunks]
        tags = tuple(sorted({row.target_tag for rows in samples for row in rows}))
        totals = [sum_over_ranks(batch_totals(rows)) for rows in samples]
        minibatches = [
            _packs(rows, tags, algorithm, total, branches=branching_packs)
            for rows, total in zip(samples, totals, strict=True)
        ]
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


def _packs(
    rows: list[TrainingSample],
    tags: tuple[str, ...],
    algorithm: AlgorithmConfig,
    totals: BatchTotals,
    *,
    branches: bool,
) -> list[Pack]:
    """The rows that have a gradient, packed; weights are those of all rows, for what is left out counts in a mean."""
    weights = token_weights(
        rows,
        algorithm.loss,  # type: ignore[arg-type]
        totals,
        max_length=algorithm.dr_grpo_max_length,
    )
    # A penalty and a bonus have a gradient wherever the policy spoke, the surrogate only where there is an advantage.
    keeps_all = algorithm.kl_coef > 0 or algorithm.entropy_coef > 0
    kept = [i for i, row in enumerate(rows) if keeps_all or row.advantage != 0.0]
    return build_packs(
        [rows[i] for i in kept],
        [weights[i] for i in kept],
        tags,
        max_tokens=algorithm.max_pack_tokens,
        branches=branches,
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
