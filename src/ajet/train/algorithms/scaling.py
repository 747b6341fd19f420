"""A step's advantages, divided by a deviation over the whole step: `algorithm.scale_rewards=batch|advantages`. Pure.

    batch       A / (std(T) + 1e-4), T the totals: TRL's `scale_rewards="batch"`, after "PPO Lite" (Liu et al. 2025,
                "Tricks or Traps?", arXiv 2508.08221)
    advantages  A / (std(A) + 1e-4): REINFORCE++ with baseline (Hu et al. 2025, arXiv 2501.03262); TRL's
                `normalize_advantages` of RLOO

where A is what `algorithm.advantage` makes of a pool without dividing, say R - mean of the group. `batch` counts how
much tasks differ, `advantages` does not.

Over which set: std is taken for each `target_tag` by itself, for here every baseline is a role's, over all episodes of
the training step in which the tag was compared with others, those of all processes and of groups without any signal
included. In it an episode counts once: its agents of the tag share its weight, an agent's calls, or turns, the agent's.
It is the sample's (n - 1 for n episodes). The mean of A is left where the credit rule put it; that of a full group is
0, so that subtracting it, as TRL and verl do, would change nothing. Where baselines come from elsewhere (`credit=
critic`) it is not: there `advantages` takes it away, too, as PPO does, or a head that lags behind would move all calls
alike, and a deviation of nearly 0 blow that up. verl (`reinforce_plus_plus_baseline`) takes both
over tokens, where a long reply counts more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np

from ajet.train.algorithms.credit.base import Outcome, Pool
from ajet.train.algorithms.outcomes import STD_EPSILON, penalty_share
from ajet.train.algorithms.pools import GroupAdvantages


def batch_scaled(
    tasks: Sequence[Sequence[Outcome]],
    pools: Sequence[Sequence[Pool]],
    credited: Sequence[GroupAdvantages],
    *,
    by: str | None,
) -> list[GroupAdvantages]:
    """The advantages, divided.

    Args:
        tasks: the step's outcomes, task by task, as the credit rule was given them.
        pools: what it made of each task.
        credited: what each task teaches, undivided.
        by: `batch` or `advantages`.
    """
    values_of = _totals if by == "batch" else _advantages
    spreads: dict[str, _Spread] = defaultdict(_Spread)
    for task, (outcomes, of_task, credit) in enumerate(zip(tasks, pools, credited, strict=True)):
        for outcome, values in values_of(outcomes, [pool for pool in of_task if not pool.is_singleton], credit):
            spreads[outcome.tag].add((task, outcome.repeat), outcome, values)
    divisors = {tag: spread.divisor() for tag, spread in spreads.items()}
    means = {tag: spread.mean() for tag, spread in spreads.items()} if by == "advantages" else {}
    shifts = [_shifts(of_task, means) for of_task in pools]
    return [_divided(*task, divisors) for task in zip(tasks, credited, shifts, strict=True)]


def _shifts(pools: Sequence[Pool], means: Mapping[str, float]) -> Mapping[tuple[int, int], float]:
    """What is taken from the advantage of each call, by repeat and index: its tag's mean, where it was compared with a
    baseline from outside the step."""
    return {
        (outcome.repeat, call.index): means[outcome.tag]
        for pool in pools
        if pool.baseline is not None and not pool.is_singleton and means
        for outcome in pool.outcomes
        for call in outcome.calls
    }


def _totals(
    outcomes: Sequence[Outcome], compared: Sequence[Pool], credit: GroupAdvantages
) -> Iterable[tuple[Outcome, list[float]]]:
    """What was compared in the pools: of each outcome its total."""
    return [(outcome, [outcome.total]) for pool in compared for outcome in pool.outcomes]


def _advantages(
    outcomes: Sequence[Outcome], compared: Sequence[Pool], credit: GroupAdvantages
) -> Iterable[tuple[Outcome, list[float]]]:
    """What became of the pools: of each agent an advantage a call, or the agent's own where it made none."""
    agents = {(outcome.repeat, outcome.agent) for pool in compared for outcome in pool.outcomes}
    return [
        (
            outcome,
            [credit.of_calls[outcome.repeat, call.index] for call in outcome.calls]
            or [credit.of_agents[outcome.repeat, outcome.agent]],
        )
        for outcome in outcomes
        if (outcome.repeat, outcome.agent) in agents
    ]


@dataclass(slots=True)
class _Spread:
    """Of one tag's values in a step."""

    values: dict[tuple[int, int], dict[str, list[float]]] = field(default_factory=dict)
    """By (task, repeat), then by agent."""
    rewards: list[float] = field(default_factory=list)
    penalties: list[float] = field(default_factory=list)

    def add(self, episode: tuple[int, int], outcome: Outcome, values: list[float]) -> None:
        """Take in an agent's values of an episode."""
        self.values.setdefault(episode, {}).setdefault(outcome.agent, []).extend(values)
        self.rewards.append(outcome.reward)
        self.penalties.append(outcome.penalty)

    def divisor(self) -> float:
        """Their deviation, and a little more."""
        num, mean = len(self.values), self.mean()
        variance = self._mean(lambda value: (value - mean) ** 2) * num / max(num - 1, 1)
        share = penalty_share(np.array(self.rewards), np.array(self.penalties))
        return float(np.sqrt(variance)) / share + STD_EPSILON

    def mean(self) -> float:
        """Their mean."""
        return self._mean(lambda value: value)

    def _mean(self, of: Callable[[float], float]) -> float:
        """In which each episode counts once, and in it each agent."""
        return fmean(fmean(fmean(map(of, each)) for each in agents.values()) for agents in self.values.values())


def _divided(
    outcomes: Sequence[Outcome],
    credit: GroupAdvantages,
    shifts: Mapping[tuple[int, int], float],
    divisors: Mapping[str, float],
) -> GroupAdvantages:
    """The same with each value shifted, and divided by its tag's; a tag that was compared with nothing has nothing to
    divide."""
    result = GroupAdvantages(
        num_pools=credit.num_pools, num_zero_std=credit.num_zero_std, num_singletons=credit.num_singletons
    )
    for outcome in outcomes:
        repeat, by = outcome.repeat, divisors.get(outcome.tag, 1.0)
        of_calls = [shifts.get((repeat, call.index), 0.0) for call in outcome.calls]
        agent = (credit.of_agents[repeat, outcome.agent] - (fmean(of_calls) if of_calls else 0.0)) / by
        result.of_agents[repeat, outcome.agent] = agent
        result.of_tags[outcome.tag].append(agent)
        for call, shift in zip(outcome.calls, of_calls, strict=True):
            result.of_calls[repeat, call.index] = (credit.of_calls[repeat, call.index] - shift) / by
            tokens = credit.of_tokens[repeat][call.index]
            result.of_tokens[repeat][call.index] = tuple((each - shift) / by for each in tokens)
    return result
