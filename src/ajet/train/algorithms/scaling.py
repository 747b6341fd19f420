"""A step's advantages, divided by a deviation over the whole step: `algorithm.scale_rewards=batch|advantages`. Pure.

    batch       A / (std(T) + 1e-4), T the totals: TRL's `scale_rewards="batch"`, after "PPO Lite" (Liu et al. 2025,
                "Tricks or Traps?", arXiv 2508.08221)
    advantages  A / (std(A) + 1e-4): REINFORCE++ with baseline (Hu et al. 2025, arXiv 2501.03262); TRL's
                `normalize_advantages` of RLOO

where A is what `algorithm.advantage` makes of a pool without dividing, say R - mean of the group. `batch` counts how
much tasks differ, `advantages` does not.

Over which set: std is taken for each `target_tag` by itself, for mostly every baseline is a role's; tags that are
compared with each other (`credit=per_task`, `shared`) have one, as a role that always wins has none of its own. It goes
over all episodes of the training step in which the tag was compared with others, those of all processes and of groups
without any signal included. In it an episode counts once: its agents of the tag share its weight, an agent's calls, or
turns, the agent's; tags that share a std count once each, or together where their pools say so. It is the sample's
(n - 1 for n episodes). The mean of A is left where the credit rule put it; that of a full group is 0, so that
subtracting it, as TRL and verl do, would change nothing. Where baselines come from elsewhere (`credit=critic`) it is
not: there `advantages` takes it away, too, as PPO does, or a head that lags behind would move all calls alike, and a
deviation of nearly 0 blow that up. verl (`reinforce_plus_plus_baseline`) takes both over tokens, where a long reply
counts more.

A penalty of c < 1 acts as in `advantages/grpo.py` as the share c of a reward that is 1 lower where nothing else makes
the difference: for `batch` where all rewards of the set are the same, for `advantages`, which knows no difference
between pools, where those of each pool are, and no pool is compared with something from outside.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from statistics import fmean

import numpy as np

from ajet.train.algorithms.credit.base import Outcome, Pool
from ajet.train.algorithms.outcomes import STD_EPSILON, penalty_share
from ajet.train.algorithms.pools import GroupAdvantages, teaches
from ajet.train.algorithms.spread import StepValues

TagSet = frozenset[str]


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
    compared = [[pool for pool in of_task if not pool.is_singleton] for of_task in pools]
    set_of = _sets(pool for of_task in compared for pool in of_task)
    pools_of: dict[TagSet, list[Pool]] = defaultdict(list)
    values_of: dict[TagSet, StepValues] = defaultdict(StepValues)
    for task, (of_task, credit) in enumerate(zip(compared, credited, strict=True)):
        for pool in of_task:
            tags = set_of[pool.outcomes[0].tag]
            pools_of[tags].append(pool)
        for cell, outcome, values in _totals(of_task) if by == "batch" else _advantages(of_task, credit):
            values_of[set_of[outcome.tag]].add((task, cell), outcome.agent, values)
    share_of = _share_of_totals if by == "batch" else _share_of_advantages
    divisors = {tags: values.std(of_sample=True) / share_of(pools_of[tags]) for tags, values in values_of.items()}
    by_tag = {tag: divisors[tags] + STD_EPSILON for tag, tags in set_of.items()}
    means = {tag: values_of[tags].mean() for tag, tags in set_of.items()} if by == "advantages" else {}
    shifts = [_shifts(of_task, means) for of_task in compared]
    return [_divided(*task, by_tag) for task in zip(tasks, credited, shifts, strict=True)]


def _sets(pools: Iterable[Pool]) -> dict[str, TagSet]:
    """Of each tag those that it is compared with, itself among them, if only by way of a third."""
    found: dict[str, TagSet] = {}
    for pool in pools:
        tags = {outcome.tag for outcome in pool.outcomes}
        joined = frozenset().union(*(found.get(tag, {tag}) for tag in tags))
        found.update(dict.fromkeys(joined, joined))
    return found


def _cell(pool: Pool, outcome: Outcome) -> Hashable:
    """What counts once in a task."""
    return outcome.repeat if pool.counts_once == "episode" else (outcome.repeat, outcome.tag)


def _totals(compared: Sequence[Pool]) -> Iterable[tuple[Hashable, Outcome, list[float]]]:
    """What was compared in the pools: of each outcome its total."""
    return [(_cell(pool, outcome), outcome, [outcome.total]) for pool in compared for outcome in pool.outcomes]


def _advantages(compared: Sequence[Pool], credit: GroupAdvantages) -> Iterable[tuple[Hashable, Outcome, list[float]]]:
    """What became of the pools: of each agent an advantage a call, or the agent's own where it made none."""
    agents = {(outcome.repeat, outcome.agent): (pool, outcome) for pool in compared for outcome in pool.outcomes}
    return [
        (_cell(pool, outcome), outcome, credit.of_tags[outcome.tag][key]) for key, (pool, outcome) in agents.items()
    ]


def _share_of_totals(pools: Sequence[Pool]) -> float:
    """What penalties count where they alone make totals differ."""
    return _share([outcome for pool in pools for outcome in pool.outcomes])


def _share_of_advantages(pools: Sequence[Pool]) -> float:
    """What penalties count where they alone make a difference within pools."""
    if any(pool.baseline is not None for pool in pools):
        return 1.0
    return max((_share(pool.outcomes) for pool in pools if teaches(pool)), default=1.0)


def _share(outcomes: Sequence[Outcome]) -> float:
    rewards, penalties = zip(*((outcome.reward, outcome.penalty) for outcome in outcomes), strict=True)
    return penalty_share(np.array(rewards, float), np.array(penalties, float))


def _shifts(compared: Sequence[Pool], means: Mapping[str, float]) -> Mapping[tuple[int, int], float]:
    """What is taken from the advantage of each call, by repeat and index: its tag's mean, where it was compared with a
    baseline from outside the step."""
    return {
        (outcome.repeat, call.index): means[outcome.tag]
        for pool in compared
        if pool.baseline is not None and means
        for outcome in pool.outcomes
        for call in outcome.calls
    }


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
        shift_of_agent = fmean(of_calls) if of_calls else 0.0
        result.of_agents[repeat, outcome.agent] = (credit.of_agents[repeat, outcome.agent] - shift_of_agent) / by
        for call, shift in zip(outcome.calls, of_calls, strict=True):
            result.of_calls[repeat, call.index] = (credit.of_calls[repeat, call.index] - shift) / by
            tokens = credit.of_tokens[repeat][call.index]
            result.of_tokens[repeat][call.index] = tuple((each - shift) / by for each in tokens)
    result.fill_tags(outcomes)
    return result
