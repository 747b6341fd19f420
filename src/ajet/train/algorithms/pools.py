"""A step's groups -> the advantage of each sampled token. Pure.

In: groups, a rule of `credit/` and one of `advantages/`. Out: what every token is credited with. The credit rule says
who gets which reward and what is pooled; the advantage gives each outcome of a pool one value, or one a call, or one a
token. A pool of a single episode, or whose totals are all the same, teaches nothing: the advantage is not asked, and
metrics count the pool.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np

from ajet.errors import AlgorithmError
from ajet.records import Call, CallKey, EpisodeGroup, Replay
from ajet.train.algorithms.credit.base import Outcome, Pool, ReplyPrices
from ajet.train.algorithms.outcomes import Outcomes, all_same

Credit = float | Sequence["float | Sequence[float]"]
"""An outcome's advantage: one number, or one a call, where a call's may be one a token in turn."""
Advantage = Callable[[Outcomes], Iterable[Credit]]
"""What `algorithm.advantage` names: `Outcomes` -> a credit for each of the A outcomes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupAdvantages:
    """What one group teaches; usable episodes only."""

    of_agents: dict[tuple[int, str], float] = field(default_factory=dict)
    """Advantage by (repeat, agent name); the mean over its calls where these differ."""
    of_calls: dict[tuple[int, int], float] = field(default_factory=dict)
    """Advantage by (repeat, index of the call); the mean over its tokens where these differ."""
    of_tokens: dict[int, dict[int, tuple[float, ...]]] = field(default_factory=lambda: defaultdict(dict))
    """Advantages of a call's sampled tokens by repeat and index of the call."""
    of_tags: dict[str, dict[tuple[int, str], list[float]]] = field(default_factory=lambda: defaultdict(dict))
    """By tag and (repeat, agent name) the advantages of its calls, its own where no call has sampled tokens."""
    num_pools: Counter[str] = field(default_factory=Counter)
    """Pools by tag; each counts for all the tags that it has."""
    num_zero_std: Counter[str] = field(default_factory=Counter)
    """Of these, pools whose totals were all the same: they contribute zero."""
    num_singletons: Counter[str] = field(default_factory=Counter)
    """Of these, pools of fewer than two episodes: they contribute zero, too."""

    def add(self, outcome: Outcome, credit: Credit, share: float) -> None:
        """Add what an outcome is credited with to what its agent, its calls and their tokens have.

        Args:
            outcome: one of a pool's.
            credit: its advantage.
            share: of the agent's calls in the episode, those that are the outcome's.

        Raises:
            ValueError: a number of values that is neither that of its calls nor that of a call's tokens.
        """
        repeat, of_calls = outcome.repeat, []
        calls = _each(credit, len(outcome.calls), "calls of an agent")
        for call, value in zip(outcome.calls, calls, strict=True):
            tokens = _each(value, len(call.sampled_ids), "sampled tokens of a call")
            of_call = tuple(map(_number, tokens))
            # A single value is kept as it is: a mean of copies may differ from it in the last digit.
            mean = float(value) if isinstance(value, int | float | np.number) else fmean(of_call or (0.0,))
            self._add_to_call(repeat, call, of_call, mean)
            of_calls.append(mean)
        agent = float(credit) if isinstance(credit, int | float | np.number) else fmean(of_calls or (0.0,))
        self.of_agents[repeat, outcome.agent] += agent * share

    def fill_tags(self, outcomes: Iterable[Outcome]) -> None:
        """Fill `of_tags`. A call without sampled tokens is not trained on, and tells nothing of how much there is to
        learn."""
        for outcome in outcomes:
            of_calls = [self.of_calls[outcome.repeat, call.index] for call in outcome.calls if call.sampled_ids]
            key = outcome.repeat, outcome.agent
            self.of_tags[outcome.tag][key] = of_calls or [self.of_agents[key]]

    def _add_to_call(self, repeat: int, call: Call, of_call: tuple[float, ...], mean: float) -> None:
        before = self.of_tokens[repeat].get(call.index, (0.0,) * len(of_call))
        self.of_tokens[repeat][call.index] = tuple(a + b for a, b in zip(before, of_call, strict=True))
        self.of_calls[repeat, call.index] = self.of_calls.get((repeat, call.index), 0.0) + mean


def agent_outcomes(
    group: EpisodeGroup,
    prices: ReplyPrices,
    replays: Mapping[int, Sequence[Replay]] | None = None,
    *,
    call_costs: Mapping[CallKey, float] | None = None,
    call_values: Mapping[CallKey, float] | None = None,
) -> list[Outcome]:
    """What each trained agent got in each usable episode of one task.

    Args:
        group: the task's episodes.
        prices: what replies cost.
        replays: usable ones, by repeat.
        call_costs: what calls cost besides; None where they cost nothing.
        call_values: what was expected before calls; None where nothing says so.
    """
    replayed = replays or {}
    costs, values = (_of_task(group, of_calls or {}) for of_calls in (call_costs, call_values))
    return [
        Outcome(
            repeat=episode.repeat,
            agent=name,
            tag=episode.agent_tags[name],
            reward=reward,
            prices=prices,
            calls=tuple(call for call in episode.calls if call.trained and call.agent_name == name),
            replays=tuple(replayed.get(episode.repeat, ())),
            call_costs=costs[episode.repeat],
            call_values=values[episode.repeat],
        )
        for episode in group.episodes
        for name, reward in episode.rewards.items()
    ]


def _of_task(group: EpisodeGroup, of_calls: Mapping[CallKey, float]) -> Mapping[int, Mapping[int, float]]:
    """What is said of one task's calls, by repeat and index of the call."""
    found: dict[int, dict[int, float]] = defaultdict(dict)
    for (task_id, repeat, index), value in of_calls.items():
        if task_id == group.task.task_id:
            found[repeat][index] = value
    return found


def pool_advantages(
    outcomes: Sequence[Outcome], pools: Sequence[Pool], advantage: Advantage, *, setting: str
) -> GroupAdvantages:
    """Advantages of every trained agent in every usable episode of one task.

    Args:
        outcomes: the agents', as `agent_outcomes` has them.
        pools: what a credit rule made of them.
        advantage: baseline and scale.
        setting: what chose the advantage, with its value, for errors.

    Raises:
        AlgorithmError: the advantage gave something else than advantages.
    """
    result = GroupAdvantages()
    num_calls = {(outcome.repeat, outcome.agent): len(outcome.calls) for outcome in outcomes}
    for outcome in outcomes:
        result.of_agents[outcome.repeat, outcome.agent] = 0.0
        # A call that is in no pool is told nothing.
        for call in outcome.calls:
            result.of_tokens[outcome.repeat][call.index] = (0.0,) * len(call.sampled_ids)
            result.of_calls[outcome.repeat, call.index] = 0.0
    for pool in pools:
        credits = _credits(pool, advantage, result)
        try:
            for outcome, credit in zip(pool.outcomes, credits, strict=True):
                all_calls = num_calls[outcome.repeat, outcome.agent]
                result.add(outcome, credit, len(outcome.calls) / all_calls if all_calls else 1.0)
        except (TypeError, ValueError) as error:
            raise AlgorithmError(
                f"{setting} must give each of {len(pool.outcomes)} agents a number, one a call, or one a token: {error}"
            ) from error
    result.fill_tags(outcomes)
    return result


def _credits(pool: Pool, advantage: Advantage, result: GroupAdvantages) -> Iterable[Credit]:
    """The advantages of a pool's outcomes; takes down in `result` whether it teaches anything."""
    tags = {outcome.tag for outcome in pool.outcomes}
    result.num_pools.update(tags)
    zeros = [0.0] * len(pool.outcomes)
    if pool.is_singleton:
        result.num_singletons.update(tags)
        return zeros
    if _is_flat(pool):
        result.num_zero_std.update(tags)
        return zeros
    if pool.baseline is not None:
        return [outcome.total - pool.baseline for outcome in pool.outcomes]
    return advantage(_compared(pool))


def teaches(pool: Pool) -> bool:
    """Whether there is a difference to learn from."""
    return not pool.is_singleton and not _is_flat(pool)


def _is_flat(pool: Pool) -> bool:
    """Whether all that is compared is the same."""
    totals = [outcome.total for outcome in pool.outcomes]
    return all_same(np.array(totals if pool.baseline is None else [*totals, pool.baseline], float))


def _compared(pool: Pool) -> Outcomes:
    """The pool as an advantage sees it."""
    cells = {pool.cell(outcome): outcome.repeat for outcome in pool.outcomes}
    numbers = {cell: i for i, cell in enumerate(cells)}
    return Outcomes(
        rewards=np.array([outcome.reward for outcome in pool.outcomes], float),
        penalties=np.array([outcome.penalty for outcome in pool.outcomes], float),
        cells=np.array([numbers[pool.cell(outcome)] for outcome in pool.outcomes]),
        episodes=np.array(list(numbers.values() if pool.counts_once == "agent" else cells.values())),
        calls=tuple(outcome.calls for outcome in pool.outcomes),
    )


def check_pools(pools: object, outcomes: Sequence[Outcome]) -> list[Pool]:
    """What a credit rule gave, if it is pools of these outcomes.

    Raises:
        TypeError, ValueError: it is something else; the message says what.
    """
    if not isinstance(pools, list):
        raise TypeError(f"pools gave {type(pools).__name__}, not a list of Pool")
    known = {(outcome.repeat, outcome.agent): {call.index for call in outcome.calls} for outcome in outcomes}
    tag_of = {(outcome.repeat, outcome.agent): outcome.tag for outcome in outcomes}
    for pool in pools:
        if not isinstance(pool, Pool) or not all(isinstance(outcome, Outcome) for outcome in pool.outcomes):
            raise TypeError(f"pools gave {pool!r:.100}, not a Pool of Outcome")
        if pool.baseline is not None and not math.isfinite(pool.baseline):
            raise ValueError(f"a pool has the baseline {pool.baseline}: it must be finite")
        for outcome in pool.outcomes:
            if (outcome.repeat, outcome.agent) not in known:
                raise ValueError(f"a pool credits {outcome.agent}, who has no reward in episode {outcome.repeat}")
            if outcome.tag != tag_of[outcome.repeat, outcome.agent]:
                raise ValueError(
                    f"a pool has {outcome.agent} as {outcome.tag!r} in episode {outcome.repeat}: keep its tag"
                )
            if not {call.index for call in outcome.calls} <= known[outcome.repeat, outcome.agent]:
                raise ValueError(f"a pool credits {outcome.agent} in episode {outcome.repeat} for calls of another")
            if not math.isfinite(outcome.reward):
                raise ValueError(f"a pool has the reward {outcome.reward} for {outcome.agent}: it must be finite")
    return pools


def _number(value: float | Sequence[float]) -> float:
    if not isinstance(value, int | float | np.number):
        raise TypeError(f"{value!r} is not a number")
    return float(value)


def _each(value: Credit | float, num: int, what: str) -> Sequence[float | Sequence[float]]:
    """One value for each of `num`, whether one was given for all or one for each."""
    if isinstance(value, int | float | np.number):
        return [float(value)] * num
    values = list(value)
    if len(values) != num:
        raise ValueError(f"{len(values)} values for {num} {what}")
    return values
