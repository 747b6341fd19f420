"""Rewards -> the advantage of each sampled token, per (task, target_tag), over episodes. Pure.

In: a group and a rule of `advantages/`. Out: what every token is credited with. A rule gives each agent of an episode
one value, or one a call, or one a token; how many calls or tokens an episode had changes no baseline. A tag with a
single episode, or whose totals are all the same, teaches nothing: the rule is not asked, and metrics count the group.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np

from ajet.config.algorithm import AlgorithmConfig
from ajet.errors import AlgorithmError
from ajet.records import Call, Episode, EpisodeGroup
from ajet.train.algorithms.outcomes import Outcomes, all_same

Credit = float | Sequence["float | Sequence[float]"]
"""An agent's advantage in an episode: one number, or one a call, where a call's may be one a token in turn."""
Advantage = Callable[[Outcomes], Iterable[Credit]]
"""What `algorithm.advantage` names: `Outcomes` -> a credit for each of the A agents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupAdvantages:
    """What one group teaches; usable episodes only."""

    of_agents: dict[tuple[int, str], float] = field(default_factory=dict)
    """Advantage by (repeat, agent name); the mean over its calls where these differ."""
    of_calls: dict[tuple[int, int], float] = field(default_factory=dict)
    """Advantage by (repeat, index of the call); the mean over its tokens where these differ."""
    of_tokens: dict[int, dict[int, tuple[float, ...]]] = field(default_factory=lambda: defaultdict(dict))
    """Advantages of a call's sampled tokens by repeat and index of the call."""
    of_tags: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """The agents' advantages by tag, for metrics."""
    zero_std_tags: set[str] = field(default_factory=set)
    """Tags whose agents all had the same total in all episodes: they contribute zero."""
    singleton_tags: set[str] = field(default_factory=set)
    """Tags with fewer than two usable episodes: they contribute zero, too."""

    def add(self, outcome: _AgentOutcome, credit: Credit) -> None:
        """Take down what an agent is credited with, for itself, its calls and their tokens.

        Raises:
            ValueError: a number of values that is neither that of its calls nor that of a call's tokens.
        """
        repeat, of_calls = outcome.repeat, []
        calls = _each(credit, len(outcome.calls), "calls of an agent")
        for call, value in zip(outcome.calls, calls, strict=True):
            tokens = _each(value, len(call.sampled_ids), "sampled tokens of a call")
            of_call = self.of_tokens[repeat][call.index] = tuple(map(_number, tokens))
            # A single value is kept as it is: a mean of copies may differ from it in the last digit.
            mean = float(value) if isinstance(value, int | float | np.number) else fmean(of_call or (0.0,))
            self.of_calls[repeat, call.index] = mean
            of_calls.append(mean)
        self.of_agents[repeat, outcome.agent] = (
            float(credit) if isinstance(credit, int | float | np.number) else fmean(of_calls or (0.0,))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _AgentOutcome:
    """What one trained agent got in one episode."""

    repeat: int
    agent: str
    tag: str
    reward: float
    penalty: float
    calls: tuple[Call, ...]


def group_advantages(group: EpisodeGroup, rule: Advantage, algorithm: AlgorithmConfig) -> GroupAdvantages:
    """Advantages of every trained agent in every usable episode of one task.

    Args:
        group: the task's episodes.
        rule: baseline and scale.
        algorithm: what a malformed reply costs, and whose rewards share a baseline.

    Raises:
        AlgorithmError: the rule gave something else than advantages.
    """
    outcomes = [outcome for episode in group.episodes for outcome in _outcomes(episode, algorithm.format_penalty)]
    pools: dict[str, list[_AgentOutcome]] = defaultdict(list)
    for outcome in outcomes:
        pools[outcome.tag if algorithm.baseline_per == "tag" else ""].append(outcome)
    result = GroupAdvantages()
    for pool in pools.values():
        tags = {outcome.tag for outcome in pool}
        credits: Iterable[Credit] = [0.0] * len(pool)
        if len({outcome.repeat for outcome in pool}) < 2:
            result.singleton_tags.update(tags)
        elif all_same(np.array([outcome.reward - outcome.penalty for outcome in pool])):
            result.zero_std_tags.update(tags)
        else:
            credits = rule(_compared(pool))
        try:
            for outcome, credit in zip(pool, credits, strict=True):
                result.add(outcome, credit)
        except (TypeError, ValueError) as error:
            raise AlgorithmError(
                f"algorithm.advantage={algorithm.advantage} must give each of {len(pool)} agents a number, one a call, "
                f"or one a token: {error}"
            ) from error
    for outcome in outcomes:
        result.of_tags[outcome.tag].append(result.of_agents[outcome.repeat, outcome.agent])
    return result


def _outcomes(episode: Episode, format_penalty: float) -> list[_AgentOutcome]:
    malformed = Counter(call.agent_name for call in episode.calls if call.trained and call.format_error is not None)
    return [
        _AgentOutcome(
            repeat=episode.repeat,
            agent=name,
            tag=episode.agent_tags[name],
            reward=reward,
            penalty=format_penalty * malformed[name],
            calls=tuple(call for call in episode.calls if call.trained and call.agent_name == name),
        )
        for name, reward in episode.rewards.items()
    ]


def _compared(pool: Sequence[_AgentOutcome]) -> Outcomes:
    """The pool as a rule sees it."""
    cells = {key: i for i, key in enumerate(dict.fromkeys((outcome.repeat, outcome.tag) for outcome in pool))}
    return Outcomes(
        rewards=np.array([outcome.reward for outcome in pool], float),
        penalties=np.array([outcome.penalty for outcome in pool], float),
        cells=np.array([cells[outcome.repeat, outcome.tag] for outcome in pool]),
        episodes=np.array([repeat for repeat, _ in cells]),
        calls=tuple(outcome.calls for outcome in pool),
    )


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
