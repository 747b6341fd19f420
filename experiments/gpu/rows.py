"""Training rows of chosen lengths with random ids: groups of rows that begin alike, as the episodes of a task do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ajet.config.algorithm import AlgorithmConfig
from ajet.config.hardware import PackCosts
from ajet.records import TrainingSample
from ajet.train.algorithms.rule import learning_rule
from ajet.train.algorithms.weights import batch_totals
from ajet.train.packing import Pack, build_packs

TAG = "policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """How many rows, and how long."""

    num_groups: int
    group_size: int
    num_prompt: int
    """Tokens that the rows of a group share."""
    num_sampled: int
    """Tokens of each row behind them."""

    @property
    def num_unique(self) -> int:
        """Tokens of a group when its prompt is computed once."""
        return self.num_prompt + self.group_size * self.num_sampled


def make_rows(groups: Groups, *, vocabulary: int, seed: int = 0) -> list[TrainingSample]:
    """Rows that were sampled uniformly by their log-probabilities, which is what a random model does, nearly."""
    draw = np.random.default_rng(seed)
    rows = []
    for group in range(groups.num_groups):
        prompt = draw.integers(0, vocabulary, groups.num_prompt).tolist()
        for repeat in range(groups.group_size):
            sampled = draw.integers(0, vocabulary, groups.num_sampled).tolist()
            mask = [False] * groups.num_prompt + [True] * groups.num_sampled
            advantage = 1.0 if repeat % 2 else -1.0
            rows.append(
                TrainingSample(
                    episode_key=(f"task{group}", repeat),
                    agent_name=TAG,
                    target_tag=TAG,
                    token_ids=(*prompt, *sampled),
                    loss_mask=tuple(mask),
                    logprobs=tuple(-float(np.log(vocabulary)) * one for one in mask),
                    advantages=tuple(advantage * one for one in mask),
                    calls=tuple(0 if one else -1 for one in mask),
                )
            )
    return rows


def row_weights(rows: list[TrainingSample]) -> list[float]:
    """Of each row's sampled tokens, by the token mean over the batch."""
    return learning_rule(AlgorithmConfig(aggregation="dapo")).token_weights(rows, batch_totals(rows))


def packs_of(rows: list[TrainingSample], *, max_tokens: int) -> list[Pack]:
    """Packs of the rows; with `max_tokens=1` each row has a pack of its own."""
    # However they are merged: what merging pays on a CPU is not what is asked here.
    return build_packs(rows, row_weights(rows), [TAG], max_tokens=max_tokens, costs=PackCosts(pair=0.0))
