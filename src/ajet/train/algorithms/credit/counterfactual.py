"""`credit=counterfactual`: what a single reply was worth, against others that the policy might have given in its place.

    A(call) = T - mean over `num_replays` of T in a replay with this call drawn anew, T = R - what its reply costs

With all that was said before held fixed and the policy playing on, the mean is a Monte Carlo estimate of the value of
the call's context, unbiased and without a critic: VinePPO (Kazemnejad et al. 2025, arXiv 2410.01679) for the steps of
one answer; C3, contextual counterfactual credit assignment (Chen et al. 2026, arXiv 2603.06859), for the messages of
several agents. What does not depend on the call stays as it was (`ajet.rollout.replaying`), so that less of the
difference is chance.

A few calls are chosen an episode; the others have the episode's usual advantage, as with `per_tag`. Each call is chosen
by a coin (`share`) in the order of calls, until there are `num_calls`: so whether it is chosen depends on nothing that
came after it, and replacing one baseline by the other cannot bias the gradient. Advantages of both kinds are in units
of rewards, so `algorithm.advantage` is `dr_grpo`. A call without a usable replay has the usual advantage, too.
What a call's KL to the reference costs (`algorithm.kl_in=reward`) is its own; of the replies in its place it is not
computed, so that this part has no baseline.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import ClassVar

from typing_extensions import override

from ajet.config.fields import named, ruled
from ajet.errors import ConfigError
from ajet.records import Call, Episode, EpisodeGroup, Replay, ReplayRequest
from ajet.train.algorithms.credit.base import CreditConfig, CreditRule, Outcome, Pool, compared_episodes, pooled


class Counterfactual(CreditRule):
    """A pool a tag of episodes, and one of calls that are compared with others in their place."""

    config: CounterfactualConfig

    @override
    def replays(self, groups: Sequence[EpisodeGroup], rng: random.Random) -> Iterable[ReplayRequest]:
        for episode, compared in compared_episodes(groups):
            for index in self._chosen(episode, compared, rng):
                for draw in range(self.config.num_replays):
                    yield ReplayRequest(episode=episode, resampled_call=index, draw=draw)

    def _chosen(self, episode: Episode, compared: Collection[str], rng: random.Random) -> Iterator[int]:
        """Indices of the calls that are drawn anew, of these tags."""
        num_chosen = 0
        for call in episode.calls:
            may_be = call.trained and call.target_tag in compared and num_chosen < self.config.num_calls
            if may_be and rng.random() < self.config.share:
                num_chosen += 1
                yield call.index

    @override
    def pools(self, outcomes: Sequence[Outcome]) -> Iterable[Pool]:
        usual, compared = [], []
        for outcome in outcomes:
            others = _totals_of_others(outcome)
            rest = tuple(call for call in outcome.calls if call.index not in others)
            episode = replace(outcome, calls=rest)
            # What its other replies cost the episode counts in its total all the same.
            usual.append(replace(episode, reward=outcome.reward - outcome.penalty + episode.penalty))
            # Without calls: it is in the pool, so that this is not of one episode, and adds nothing.
            compared.append(replace(outcome, reward=0.0, calls=()))
            for call in outcome.calls:
                if call.index in others:
                    compared.append(replace(outcome, reward=outcome.reward - fmean(others[call.index]), calls=(call,)))
        yield from pooled(usual, lambda outcome: outcome.tag)
        if len(compared) > len(outcomes):
            yield from pooled(compared, lambda outcome: outcome.tag, baseline=0.0)


def _totals_of_others(outcome: Outcome) -> dict[int, list[float]]:
    """By index of an agent's call, what the agent had in replays with another reply in its place."""
    totals: dict[int, list[float]] = defaultdict(list)
    calls = {call.index: call for call in outcome.calls}
    for one in outcome.replays:
        call = calls.get(-1 if one.request.resampled_call is None else one.request.resampled_call)
        if call is not None and outcome.agent in one.episode.rewards:
            other = drawn_anew(call, one)
            cost = 0.0 if other is None else outcome.prices.of(other)
            totals[call.index].append(one.episode.rewards[outcome.agent] - cost)
    return totals


def drawn_anew(call: Call, replay: Replay) -> Call | None:
    """What stands in a replay in the place of a call of its episode: the agent's with the same prompt, for the n-th
    time."""

    def asked_alike(episode: Episode) -> list[Call]:
        speaker = call.agent_name, call.prompt_ids
        return [one for one in episode.calls if one.trained and (one.agent_name, one.prompt_ids) == speaker]

    place = [one.index for one in asked_alike(replay.request.episode)].index(call.index)
    return next(iter(asked_alike(replay.episode)[place:]), None)


@dataclass
class CounterfactualConfig(CreditConfig):
    """Single replies against others that the policy gives in the same place; other replies as `per_tag`."""

    name: str = named("counterfactual")
    share: float = ruled(0.2, above=0, at_most=1)
    """Probability that a call of a trained agent is chosen."""
    num_calls: int = ruled(2, at_least=1)
    """Most calls of an episode that are chosen: the first ones."""
    num_replays: int = ruled(2, at_least=1)
    """Replays of the episode for each chosen call, each with another reply in its place: their mean is its baseline."""

    component: ClassVar[type[CreditRule]] = Counterfactual
    has_own_baselines: ClassVar[bool] = True

    @override
    def most_replays(self, *, num_tags: int | None) -> int | None:
        return self.num_calls * self.num_replays

    @override
    def check(self, *, advantage: str, trained_tags: Sequence[str] | None) -> None:
        if advantage != "dr_grpo":
            raise ConfigError(
                "credit=counterfactual compares some calls with replays, in units of rewards, and "
                f"algorithm.advantage={advantage} has others on another scale: choose algorithm.advantage=dr_grpo"
            )
