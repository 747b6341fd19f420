"""What is asked about a step's calls before they are credited, each by a forward pass of all of them.

In: a step's groups. Out: what their distance to a reference costs (`algorithm.kl_in=reward`), and what a value head
expected before them (`credit=critic`); nothing where credit goes by neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ajet.config.root import Config
from ajet.records import CallKey, EpisodeGroup
from ajet.train.call_values import call_values
from ajet.train.learner import Learner
from ajet.train.masks import ReplyMasks
from ajet.train.ranks import Ranks
from ajet.train.reference import CallCosts, kl_costs


@dataclass(frozen=True, slots=True, kw_only=True)
class BeforeCredit:
    """Of one step; the same on every rank."""

    costs: CallCosts = field(default_factory=CallCosts)
    values: Mapping[CallKey, float] | None = None
    """By call; None in a run that trains no values."""


def ask_before_credit(
    groups: Sequence[EpisodeGroup],
    learner: Learner,
    ranks: Ranks,
    config: Config,
    *,
    step: int,
    has_values: bool,
    reply_masks: ReplyMasks | None,
) -> BeforeCredit:
    """Ask what credit goes by.

    Args:
        groups: of all ranks.
        learner: has the reference and the values.
        ranks: the processes of the run.
        config: of the run.
        step: training steps done.
        has_values: whether values are trained.
        reply_masks: gives those of replies that were sampled under grammars; None where there are none.

    Raises:
        EngineError: of a server that has the reference; a reply does not keep to its grammar.
    """
    costs = CallCosts()
    if config.algorithm.kl_in_reward:
        costs = kl_costs(groups, learner, ranks, config, step=step, reply_masks=reply_masks)
    values = call_values(groups, learner, ranks, config, reply_masks=reply_masks) if has_values else None
    return BeforeCredit(costs=costs, values=values)
