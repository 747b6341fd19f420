"""The learning rule of a run: the algorithm group with what its names stand for.

In: the group. Out: a `LearningRule`, whose answers are checked: code of the user's that raises, or gives something else
than numbers of the right shape, becomes one sentence that names it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ajet.config.algorithm import AlgorithmConfig
from ajet.errors import AlgorithmError
from ajet.records import EpisodeGroup, TrainingSample
from ajet.train.algorithms import credit, weights
from ajet.train.algorithms.credit import GroupAdvantages
from ajet.train.algorithms.options import Option, find_option
from ajet.train.algorithms.tokens import SampledTokens
from ajet.train.algorithms.weights import BatchTotals


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningRule:
    """What one run learns by: functions of files in `losses/`, `advantages/` and `aggregations/`, or the user's."""

    config: AlgorithmConfig
    loss: Option
    """(`SampledTokens`) -> a loss a token, or the pair of it and of where its clip is active."""
    advantage: Option
    """(`Outcomes`) -> a credit for each agent."""
    aggregation: Option
    """(a sequence's length, `BatchTotals`) -> the weight of each of the sequence's tokens."""

    def token_losses(self, tokens: SampledTokens) -> tuple[Tensor, Tensor]:
        """The loss of each token (E), and where its clip is active (E; 1.0 or 0.0).

        Raises:
            AlgorithmError: a loss of the user's raised something, or did not give a value a token.
        """
        with self.loss.runs():
            given = self.loss.function(tokens)
        loss, clipped = given if isinstance(given, tuple) else (given, torch.zeros_like(tokens.logp))
        for values in (loss, clipped):
            if not isinstance(values, Tensor) or values.shape != tokens.logp.shape:
                found = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
                raise AlgorithmError(
                    f"{self.loss.setting} must give a tensor with a value for each of the {len(tokens.logp)} tokens "
                    f"that it was given, not {found}"
                )
        return loss, clipped.to(tokens.logp.dtype)

    def group_advantages(self, group: EpisodeGroup) -> GroupAdvantages:
        """What a group teaches.

        Raises:
            AlgorithmError: an advantage of the user's raised something, or gave something else than advantages.
        """
        with self.advantage.runs():
            return credit.group_advantages(group, self.advantage.function, self.config)

    def token_weights(self, samples: Sequence[TrainingSample], totals: BatchTotals) -> list[float]:
        """The weight of each sampled token of each row.

        Raises:
            AlgorithmError: an aggregation of the user's raised something, or gave what cannot be a weight.
        """
        return weights.token_weights(samples, self.weight, totals)

    def weight(self, length: int, totals: BatchTotals) -> float:
        """The weight of each token of a sequence of `length` sampled tokens; errors as `token_weights`."""
        with self.aggregation.runs():
            given = self.aggregation.function(length, totals)
        # Never below 0: which way a token is pushed is the advantage's to say.
        if not isinstance(given, int | float) or not math.isfinite(given) or given < 0:
            raise AlgorithmError(f"{self.aggregation.setting} must give a finite number from 0 on, not {given!r}")
        return given


def learning_rule(algorithm: AlgorithmConfig) -> LearningRule:
    """Load what the group names.

    Raises:
        ConfigError: as `find_option`.
    """
    return LearningRule(
        config=algorithm,
        loss=find_option("loss", algorithm, num_given=1),
        advantage=find_option("advantage", algorithm, num_given=1),
        aggregation=find_option("aggregation", algorithm, num_given=2),
    )
