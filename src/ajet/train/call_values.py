"""A step's values, for a run that trains some (`credit=critic`): asked before credit, and targets put into packs.

In: groups and a learner, later targets. Out: what is expected before each call; packs with what their values are
trained towards; how well values tell what came. Left out: the head, and what makes targets of values.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ajet.config.root import Config
from ajet.records import CallKey, EpisodeGroup, TrainingSample
from ajet.train.algorithms.outcomes import FloatArray, all_same
from ajet.train.algorithms.weights import batch_totals, call_weights
from ajet.train.every_call import ask_of_every_call
from ajet.train.learner import Learner
from ajet.train.masks import ReplyMasks
from ajet.train.packing import Pack, ValueTargets
from ajet.train.ranks import Ranks


def call_values(
    groups: Sequence[EpisodeGroup],
    learner: Learner,
    ranks: Ranks,
    config: Config,
    *,
    reply_masks: ReplyMasks | None,
) -> dict[CallKey, float]:
    """The values of every trained call of the step, of cut ones, too: what follows them is compared with theirs.

    Args:
        groups: of all ranks.
        learner: has the values.
        ranks: the processes of the run.
        config: what decides which rows share a pack.
        reply_masks: gives those of replies that were sampled under grammars; None where there are none.

    Returns:
        The same on every rank.
    """
    values_of = learner.call_values
    assert values_of is not None, "a run that cannot have values is refused"

    def question(packs: Sequence[Pack], tags: Sequence[str]) -> list[tuple[CallKey, float]]:
        answers = zip(packs, values_of(packs, tags), strict=True)
        return [pair for pack, value_C in answers for pair in zip(pack.call_keys, value_C.tolist(), strict=True)]

    return ask_of_every_call(
        question,
        groups,
        ranks,
        config,
        mask_truncated=False,
        branches=learner.why_chains_only is None,
        reply_masks=reply_masks,
    )


def with_targets(
    packs: Sequence[Pack], targets: Mapping[CallKey, float], weights: Mapping[CallKey, float], *, coef: float
) -> list[Pack]:
    """Packs whose calls have their targets, with `coef` times their weights."""
    return [
        replace(
            pack,
            values=ValueTargets(
                targets=np.array([targets[key] for key in pack.call_keys]),
                weights=coef * np.array([weights[key] for key in pack.call_keys]),
            ),
        )
        for pack in packs
    ]


def value_metrics(
    values: Mapping[CallKey, float], targets: Mapping[CallKey, float], samples: Sequence[TrainingSample]
) -> dict[str, float]:
    """How well values have told what came, before the update, by tag.

    Args:
        values: of calls.
        targets: of calls.
        samples: the rows of the step, whose calls count.

    Returns:
        `policy/<tag>/value_loss`, and where targets differ `policy/<tag>/value_explained_variance`, which is
        1 - var(target - value) / var(target); calls weigh in both what they do in the loss.
    """
    weights = call_weights(samples, batch_totals(samples))
    keys: dict[str, set[CallKey]] = defaultdict(set)
    for sample in samples:
        keys[sample.target_tag].update((*sample.episode_key, index) for index in sample.calls if index >= 0)
    metrics: dict[str, float] = {}
    for tag, of_tag in keys.items():
        told_N3 = np.array([(values[key], targets[key], weights[key]) for key in sorted(of_tag)])
        value_N, target_N, weight_N = told_N3.T
        metrics[f"policy/{tag}/value_loss"] = float(np.average((value_N - target_N) ** 2, weights=weight_N)) / 2
        if not all_same(target_N):
            unexplained = _variance(target_N - value_N, weight_N) / _variance(target_N, weight_N)
            metrics[f"policy/{tag}/value_explained_variance"] = 1 - unexplained
    return metrics


def _variance(values_N: FloatArray, weight_N: FloatArray) -> float:
    return float(np.average((values_N - np.average(values_N, weights=weight_N)) ** 2, weights=weight_N))
