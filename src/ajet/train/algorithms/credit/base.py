"""What a credit rule is, what it is given and gives, and what the rules' configurations share. Pure.

    a task's episodes --> outcomes, one a trained agent and episode --> [credit rule] --> pools --> [advantage]

A rule says who gets which reward and whose rewards share a baseline; `algorithm.advantage` says how the totals of a
pool become advantages. One that compares an episode with what else it might have come to asks for replays of it first.
A rule is a subclass of `CreditConfig` with its settings, and the `CreditRule` that it builds beside it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from ajet.config.component import construct
from ajet.config.fields import needed
from ajet.records import Call, Episode, EpisodeGroup, Replay, ReplayRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyPrices:
    """What a reply takes from its agent's reward, for the advantage only; nothing by default.

    A malformed one costs `malformed`. One of n tokens costs `overlong` times

        0 up to max_tokens - buffer tokens,  (n - (max_tokens - buffer)) / buffer from there on,  1 at max_tokens

    which is DAPO's soft overlong punishment (Yu et al. 2025, equation 13; TRL's `get_soft_overlong_punishment`) of each
    reply by itself, for here an episode has many. Example: overlong 1, buffer 20, max_tokens 100: 90 tokens cost 0.5.
    """

    malformed: float = 0.0
    """`algorithm.format_penalty`."""
    overlong: float = 0.0
    """`algorithm.overlong_penalty`."""
    buffer: int = 1
    """`algorithm.overlong_buffer`, tokens."""
    max_tokens: int = 0
    """`rollout.max_tokens`; a lower limit that a program sets itself is no part of it."""

    def of(self, call: Call) -> float:
        """What this reply costs."""
        malformed = self.malformed if call.format_error is not None else 0.0
        if not self.overlong:
            return malformed
        excess = len(call.sampled_ids) - (self.max_tokens - self.buffer)
        return malformed + self.overlong * min(max(excess / self.buffer, 0.0), 1.0)


FREE_REPLIES = ReplyPrices()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A reward, and the calls that are credited with it: at first all of an agent in an episode.

    Example: Player3, the seer, won: repeat=2, agent="Player3", tag="seer", reward=1.0, calls=(…, …).
    """

    repeat: int
    """Which of the task's episodes, from 0."""
    agent: str
    tag: str
    reward: float
    prices: ReplyPrices = FREE_REPLIES
    """What replies among `calls` take from the reward."""
    calls: tuple[Call, ...] = ()
    replays: tuple[Replay, ...] = ()
    """Of its episode, as far as the rule has asked for them and they can be used."""
    call_costs: Mapping[int, float] = field(default_factory=dict)
    """What calls take from the reward, by their index in the episode: their KL to the reference, where
    `algorithm.kl_in=reward`."""
    call_values: Mapping[int, float] = field(default_factory=dict)
    """What was expected before each call, by its index in the episode; with `credit=critic`."""

    def cost_of(self, call: Call) -> float:
        """What one of its calls takes from the reward: a malformed or overlong reply, and costs of its own."""
        return self.prices.of(call) + self.call_costs.get(call.index, 0.0)

    def value_of(self, call: Call) -> float:
        """What was expected before one of its calls; 0 where there is no value."""
        return self.call_values.get(call.index, 0.0)

    @property
    def penalty(self) -> float:
        """What its calls take from the reward."""
        return sum(map(self.cost_of, self.calls))

    @property
    def total(self) -> float:
        """What is compared."""
        return self.reward - self.penalty

    @property
    def episode_reward(self) -> float:
        """What the episode as a whole gave the agent: its reward less those of its calls."""
        return self.reward - sum(call.reward for call in self.calls)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Outcomes that share a baseline. Each advantage goes to its outcome's calls; a call in several pools gets the sum.

    Example: a task's episodes, of one tag: `Pool(outcomes=[outcome for outcome in outcomes if outcome.tag == "seer"])`.
    """

    outcomes: Sequence[Outcome]
    counts_once: Literal["tag", "episode", "agent"] = "tag"
    """What counts as one value in the baseline and the spread, however many outcomes it has: an episode's agents of one
    `tag`, a whole `episode`, or each `agent` of an episode, so that a pool may lie within one."""
    baseline: float | None = None
    """What totals are compared with; None: with each other, as `algorithm.advantage` says."""

    def cell(self, outcome: Outcome) -> Hashable:
        """What it counts once with."""
        if self.counts_once == "episode":
            return outcome.repeat
        return outcome.repeat, outcome.tag if self.counts_once == "tag" else outcome.agent

    def trial(self, outcome: Outcome) -> Hashable:
        """What it was played in: at least two make a baseline."""
        return (outcome.repeat, outcome.agent) if self.counts_once == "agent" else outcome.repeat

    @property
    def is_singleton(self) -> bool:
        """Whether there is nothing to compare with."""
        return len({self.trial(outcome) for outcome in self.outcomes}) < 2


class CreditRule:
    """Who gets which reward, and whose rewards share a baseline. One object a run, asked step by step."""

    asks_opponent: ClassVar[bool] = False
    """Whether its replays have agents of trained roles answered by the opponent, which must then be able to."""

    def __init__(self, config: Any) -> None:
        """`config`: the rule's own."""
        self.config = config

    def replays(self, groups: Sequence[EpisodeGroup], rng: random.Random) -> Iterable[ReplayRequest]:
        """What is to be played again before a step is credited. Each process asks for the same.

        Args:
            groups: of the step, as all processes have played them.
            rng: of this step alone.
        """
        return ()

    def begin_step(self, tasks: Sequence[Sequence[Outcome]]) -> None:
        """Told of a step's outcomes, task by task, before the first task is credited. Those of all processes, each of
        which credits all of them."""

    def pools(self, outcomes: Sequence[Outcome]) -> Iterable[Pool]:
        """The pools of one task.

        Args:
            outcomes: of each trained agent in each usable episode, in the order of episodes.
        """
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """What it keeps from step to step, in JSON's types: checkpoints hold it, for runs that are resumed."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""


@dataclass
class CreditConfig:
    """The credit group. The chosen rule's subclass has its own settings."""

    name: str = needed()
    """The credit rule's name, e.g. `per_tag`: what `credit=` chooses."""

    component: ClassVar[Any] = None
    """The rule's class (docs/extend/credit.md)."""
    has_own_baselines: ClassVar[bool] = False
    """Whether pools are compared with something from outside the task, so that one whose totals are all the same may
    teach something."""
    has_values: ClassVar[bool] = False
    """Whether a value head is trained beside the policy, which says what is expected before calls are credited: of
    `credit=critic`, and of rules that extend it with its settings."""

    @property
    def plays_again(self) -> bool:
        """Whether the rule asks for replays."""
        return self._is_rule and self.component.replays is not CreditRule.replays

    @property
    def asks_opponent(self) -> bool:
        """Whether an opponent answers agents of trained roles, too."""
        return self._is_rule and self.component.asks_opponent

    def most_replays(self, *, num_tags: int | None) -> int | None:
        """The most replays that the rule asks for of one episode, for `ajet plan`; None where that is not known.

        Args:
            num_tags: trained roles; None where only play will tell.
        """
        return None if self.plays_again else 0

    @property
    def _is_rule(self) -> bool:
        return isinstance(self.component, type) and issubclass(self.component, CreditRule)

    def build(self) -> CreditRule:
        """The rule.

        Raises:
            ConfigError: what the `__init__` of a user's class raised.
        """
        rule: CreditRule = construct(self, f"credit={self.name}")
        return rule

    def check(self, *, advantage: str, trained_tags: Sequence[str] | None) -> None:
        """Refuse settings that cannot work.

        Args:
            advantage: `algorithm.advantage`.
            trained_tags: those that are trained; None where only play will tell.

        Raises:
            ConfigError: what to change.
        """

    def remark(self, *, trained_tags: Sequence[str] | None) -> str | None:
        """For the lines that a run begins with: what the user may not expect of this rule; None for nothing.

        Args:
            trained_tags: as for `check`.
        """
        return None


def compared_episodes(groups: Sequence[EpisodeGroup]) -> Iterator[tuple[Episode, set[str]]]:
    """Usable episodes, each with the tags that have rewards in at least two of its task's: with those of a single one
    nothing is compared, so that replays of it would be played in vain."""
    for group in groups:
        usable = [episode for episode in group.episodes if episode.usable]
        counts = Counter(tag for episode in usable for tag in episode.tag_rewards())
        compared = {tag for tag, num_episodes in counts.items() if num_episodes > 1}
        yield from ((episode, compared) for episode in usable)


def pooled(outcomes: Iterable[Outcome], key: Any, **about: Any) -> list[Pool]:
    """A pool for each value that `key` has of an outcome, in the order in which they come up.

    Args:
        outcomes: to be shared out.
        key: outcome -> what it is pooled by.
        about: further fields of the pools.
    """
    found: dict[Hashable, list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(key(outcome), []).append(outcome)
    return [Pool(outcomes=pool, **about) for pool in found.values()]
