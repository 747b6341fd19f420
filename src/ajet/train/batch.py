"""Groups of episodes -> minibatches of packs, with every count of what was left out.

In: the groups of one step. Out: a `TrainingBatch`. In the order of docs/design.md: advantages, samples, weights, packs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from ajet.config.hardware import PackCosts
from ajet.records import CallKey, EpisodeGroup, Replay, TrainingSample
from ajet.train.algorithms.pools import GroupAdvantages
from ajet.train.algorithms.rule import LearningRule
from ajet.train.algorithms.spread import StepValues
from ajet.train.algorithms.weights import BatchTotals, batch_totals, call_weights
from ajet.train.call_values import value_metrics, with_targets
from ajet.train.clock import PhaseClock
from ajet.train.masks import ReplyMasks, row_masks
from ajet.train.packing import Pack, build_packs
from ajet.train.timeline import build_samples

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingBatch:
    """What one step trains on."""

    minibatches: list[list[Pack]]
    """Packs by minibatch; an epoch takes an optimizer step for each."""
    tags: tuple[str, ...]
    """The tags that packs point into."""
    advantages: Mapping[CallKey, float]
    """By call, for the trajectory store."""
    metrics: dict[str, float]


def build_batch(
    groups: Sequence[EpisodeGroup],
    rule: LearningRule,
    clock: PhaseClock,
    *,
    branching_packs: bool,
    costs: PackCosts,
    reply_masks: ReplyMasks | None = None,
    replays: Sequence[Replay] = (),
    call_costs: Mapping[CallKey, float] | None = None,
    call_values: Mapping[CallKey, float] | None = None,
) -> TrainingBatch:
    """Credit, cut and pack one step's groups.

    Args:
        groups: of all ranks, in the order in which they are cut into minibatches.
        rule: baselines, aggregation, minibatches and packs.
        clock: takes the time.
        branching_packs: whether the model computes packs that branch exactly (`train/attention.py`).
        costs: what decides which rows share a pack.
        reply_masks: gives those of replies that were sampled under grammars; None where there are none.
        replays: what the rule compares episodes with; no row is made of them.
        call_costs: what calls take from rewards, besides malformed replies; None for nothing.
        call_values: what was expected before calls; None where no values are trained.

    Raises:
        EngineError: a reply does not keep to its grammar.
    """
    with clock.phase("advantage"):
        credited = rule.step_advantages(groups, replays, call_costs=call_costs, call_values=call_values)
        targets = rule.value_targets(groups, call_costs=call_costs or {}, call_values=call_values or {})
    with clock.phase("pack"):
        divided = _split_into_minibatches(list(zip(groups, credited, strict=True)), rule.config.num_minibatches)
        masks = rule.config.mask_truncated
        samples = [[row for group, credit in part for row in _rows(group, credit, masks)] for part in divided]
        tags = tuple(sorted({row.target_tag for rows in samples for row in rows}))
        minibatches = [
            _packs(
                rows,
                tags,
                rule,
                [group for group, _ in part],
                branches=branching_packs,
                costs=costs,
                reply_masks=reply_masks,
                targets=targets,
            )
            for rows, part in zip(samples, divided, strict=True)
        ]
    advantages = {
        (group.task.task_id, repeat, call): value
        for group, credit in zip(groups, credited, strict=True)
        for (repeat, call), value in credit.of_calls.items()
    }
    metrics = _credit_metrics(credited) | _token_metrics(samples, minibatches)
    if call_values is not None:
        metrics |= value_metrics(call_values, targets, [row for rows in samples for row in rows])
    return TrainingBatch(minibatches=minibatches, tags=tags, advantages=advantages, metrics=metrics)


def _split_into_minibatches(items: list[T], num: int) -> list[list[T]]:
    size = -(-len(items) // num)
    return [items[i * size : (i + 1) * size] for i in range(num)]


def _rows(group: EpisodeGroup, credit: GroupAdvantages, mask_truncated: bool) -> list[TrainingSample]:
    rows: list[TrainingSample] = []
    for episode in group.episodes:
        if episode.usable:
            rows += build_samples(episode, credit.of_tokens[episode.repeat], mask_truncated=mask_truncated)
    return rows


def _totals(rows: Sequence[TrainingSample], groups: Sequence[EpisodeGroup]) -> BatchTotals:
    """The sizes of an optimizer step's batch.

    As in TRL, a sequence whose calls were all cut and left out (`algorithm.mask_truncated`) counts all the same in a
    mean over sequences, so that the others don't weigh more for it; what was left out is no part of a mean over tokens.
    """
    sequences = {
        (group.task.task_id, episode.repeat, call.target_tag)
        for group in groups
        for episode in group.episodes
        for call in episode.calls
        if episode.usable and call.trained and call.sampled_ids
    }
    return replace(batch_totals(rows), num_sequences=len(sequences))


def _packs(
    rows: list[TrainingSample],
    tags: tuple[str, ...],
    rule: LearningRule,
    groups: Sequence[EpisodeGroup],
    *,
    branches: bool,
    costs: PackCosts,
    reply_masks: ReplyMasks | None,
    targets: Mapping[CallKey, float],
) -> list[Pack]:
    """The rows that have a gradient, packed; weights are those of all rows, for what is left out counts in a mean."""
    totals, critic = _totals(rows, groups), rule.critic
    weights = rule.token_weights(rows, totals)
    # A penalty, a bonus and a value have a gradient wherever the policy spoke, a loss only where it is credited. Which
    # tokens have most entropy, or covariance, is decided by all of them.
    config = rule.config
    chooses = config.top_entropy_quantile < 1 or config.kl_cov_share > 0
    keeps_all = config.kl_in_loss or config.pays_entropy or chooses or critic is not None
    kept = [i for i, row in enumerate(rows) if keeps_all or any(row.advantages)]
    kept_rows = [rows[i] for i in kept]
    packs = build_packs(
        kept_rows,
        [weights[i] for i in kept],
        tags,
        max_tokens=rule.config.max_pack_tokens,
        branches=branches,
        costs=costs,
        masks=None if reply_masks is None else row_masks(kept_rows, groups, reply_masks),
    )
    return packs if critic is None else with_targets(packs, targets, call_weights(rows, totals), coef=critic.value_coef)


def _credit_metrics(credited: Sequence[GroupAdvantages]) -> dict[str, float]:
    """`advantage/<tag>/abs_mean` and `std` over calls, and shares of pools that teach nothing."""
    metrics: dict[str, float] = {}
    for tag in sorted({tag for credit in credited for tag in credit.of_tags}):
        having = [credit for credit in credited if tag in credit.of_tags]
        values = StepValues()
        for task, credit in enumerate(having):
            for (repeat, agent), of_calls in credit.of_tags[tag].items():
                values.add((task, repeat), agent, of_calls)
        mean = values.abs_mean()
        if math.isfinite(mean):  # what is not is counted where its update is skipped
            metrics[f"advantage/{tag}/abs_mean"] = mean
            metrics[f"advantage/{tag}/std"] = values.std(of_sample=False)
        num_pools = sum(credit.num_pools[tag] for credit in having)
        if num_pools:  # a rule of the user's may leave a tag out
            metrics[f"group/{tag}/zero_std_fraction"] = sum(c.num_zero_std[tag] for c in having) / num_pools
            metrics[f"group/{tag}/singleton_fraction"] = sum(c.num_singletons[tag] for c in having) / num_pools
    return metrics


def _token_metrics(samples: Sequence[Sequence[TrainingSample]], packs: Sequence[Sequence[Pack]]) -> dict[str, float]:
    unique = sum(len(pack.token_ids) for minibatch in packs for pack in minibatch)
    idle = [a == 0 for rows in samples for row in rows for a, m in zip(row.advantages, row.loss_mask, strict=True) if m]
    merged = sum(pack.num_row_tokens for minibatch in packs for pack in minibatch)
    return {
        "tokens/trained": float(sum(len(pack.targets) for minibatch in packs for pack in minibatch)),
        "tokens/zero_advantage": float(sum(idle)),
        "tokens/rows": float(merged),
        "tokens/unique": float(unique),
        "tokens/merge_ratio": merged / unique if unique else 1.0,
        "batch/packs": float(sum(len(minibatch) for minibatch in packs)),
    }
