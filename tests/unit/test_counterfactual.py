"""`credit=counterfactual`: chosen replies against others in their place, with numbers one can check by hand."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.factories import TASK, make_call, make_episode

from ajet.config.algorithm import AlgorithmConfig
from ajet.config.compose import compose
from ajet.config.options import option
from ajet.errors import ConfigError
from ajet.records import Episode, EpisodeGroup, Replay, ReplayRequest
from ajet.train.algorithms.credit.counterfactual import drawn_anew
from ajet.train.algorithms.pools import GroupAdvantages
from ajet.train.algorithms.rule import LearningRule, learning_rule


def rule_of(*, penalty: float = 0.0, **settings: float) -> LearningRule:
    credit = option("credit", "counterfactual")(**settings)
    return learning_rule(AlgorithmConfig(advantage="dr_grpo", format_penalty=penalty), credit)


def episode_of(repeat: int, reward: float, num_calls: int = 2, spoilt: Sequence[int] = ()) -> Episode:
    """One agent; its k-th call has the prompt (k,)."""
    calls = [make_call((k,), (2,), index=k, format_error="no JSON" if k in spoilt else None) for k in range(num_calls)]
    return make_episode(repeat, {"P1": reward}, *calls)


def replay_of(episode: Episode, call: int, again: Episode, *, draw: int = 0, reproduced: bool = True) -> Replay:
    request = ReplayRequest(episode=episode, resampled_call=call, draw=draw)
    return Replay(request=request, episode=again, is_reproduced=reproduced)


def group_of(*episodes: Episode) -> EpisodeGroup:
    return EpisodeGroup(task=TASK, episodes=episodes)


def credited(group: EpisodeGroup, replays: Sequence[Replay], *, penalty: float = 0.0) -> GroupAdvantages:
    return rule_of(penalty=penalty).group_advantages(group, replays)


def chosen(group: EpisodeGroup, seed: int = 0, **settings: float) -> list[tuple[int, int | None, int]]:
    requests = rule_of(**settings).replay_requests([group], random.Random(seed))
    return [(one.episode.repeat, one.resampled_call, one.draw) for one in requests]


def test_calls_are_chosen_in_their_order_up_to_a_bound_and_drawn_several_times() -> None:
    group = group_of(episode_of(0, 1.0, num_calls=4), episode_of(1, 0.0, num_calls=1))
    asked = chosen(group, share=1.0, num_calls=2, num_replays=2)
    assert asked == [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 0), (1, 0, 1)]
    several = {tuple(chosen(group, seed, share=0.5)) for seed in range(20)}
    assert len(several) > 2 and chosen(group, 3) == chosen(group, 3)


def test_a_choice_does_not_depend_on_what_came_after_it() -> None:
    for seed in range(20):
        long, short = (
            chosen(group_of(episode_of(0, 1.0, num_calls=num), episode_of(1, 0.0, num_calls=0)), seed, share=0.5)
            for num in (6, 3)
        )
        assert [one for one in long if (one[1] or 0) < 3] == short


def test_opponents_calls_are_not_chosen_and_a_single_episode_asks_for_nothing() -> None:
    told = make_episode(0, {"P1": 1.0}, make_call((1,), (2,), trained=False))
    assert chosen(group_of(told, told), share=1.0) == []
    assert chosen(group_of(episode_of(0, 1.0), make_episode(1, {}, status="timeout")), share=1.0) == []
    alone = make_episode(1, {"P2": 1.0}, make_call((1,), (2,), agent="P2", tag="wolf"), tags={"P2": "wolf"})
    assert chosen(group_of(episode_of(0, 1.0), alone), share=1.0) == []


def test_a_chosen_call_is_compared_with_others_in_its_place_and_the_rest_as_ever() -> None:
    first, second = episode_of(0, 1.0), episode_of(1, 0.0)
    replays = [
        replay_of(first, 1, episode_of(0, 1.0), draw=0),
        replay_of(first, 1, episode_of(0, 0.0), draw=1),
        replay_of(second, 0, episode_of(1, 0.75)),
        replay_of(second, 1, episode_of(1, 5.0), reproduced=False),
    ]
    result = credited(group_of(first, second), replays)
    # The group's mean is .5; the replays' are .5 and .75.
    assert result.of_calls == {(0, 0): 0.5, (0, 1): 0.5, (1, 0): -0.75, (1, 1): -0.5}
    assert result.of_agents == {(0, "P1"): 0.5, (1, "P1"): -0.625}
    assert result.num_pools == {"seer": 2} and not result.num_singletons


def test_a_call_chosen_in_one_episode_alone_is_credited_too() -> None:
    first, second = episode_of(0, 1.0), episode_of(1, 1.0)
    result = credited(group_of(first, second), [replay_of(first, 0, episode_of(0, 0.0))])
    assert result.of_calls == {(0, 0): 1.0, (0, 1): 0.0, (1, 0): 0.0, (1, 1): 0.0}


def test_a_malformed_reply_costs_its_own_call_and_the_one_in_its_place_likewise() -> None:
    first, second = episode_of(0, 1.0, spoilt=[0]), episode_of(1, 1.0)
    good, bad = episode_of(0, 1.0), episode_of(0, 1.0, spoilt=[0, 1])
    values = credited(group_of(first, second), [replay_of(first, 0, good)], penalty=0.5).of_calls
    # The episodes' totals are .5 and 1: the mean is .75.
    assert values == {(0, 0): -0.5, (0, 1): -0.25, (1, 0): 0.25, (1, 1): 0.25}
    assert credited(group_of(first, second), [replay_of(first, 0, bad)], penalty=0.5).of_calls[0, 0] == 0.0


def test_what_was_drawn_anew_is_found_by_its_prompt_and_how_often_it_was_asked() -> None:
    prompts = [(1,), (5,), (1,)]
    calls = [make_call(prompt, (i,), index=i) for i, prompt in enumerate(prompts)]
    other = make_call((1,), (9,), agent="P2", tag="wolf")
    episode = make_episode(0, {"P1": 1.0}, *calls)
    # Replies were received in another order, and another agent was asked the same.
    swapped = [replace(call, index=i) for i, call in enumerate([other, calls[0], calls[2], calls[1]])]
    again = make_episode(0, {"P1": 1.0}, *swapped)
    found = drawn_anew(calls[2], replay_of(episode, 2, again))
    assert found is not None and found.sampled_ids == (2,)
    assert drawn_anew(calls[2], replay_of(episode, 2, make_episode(0, {"P1": 1.0}, calls[0]))) is None


@st.composite
def replayed(draw: st.DrawFn) -> tuple[EpisodeGroup, list[Replay]]:
    """Two to four episodes of one to three calls, some of them drawn anew."""
    values = st.sampled_from([0.0, 1.0, -3.0, 0.25])
    episodes = [episode_of(i, draw(values), num_calls=draw(st.integers(1, 3))) for i in range(draw(st.integers(2, 4)))]
    replays = [
        replay_of(one, call.index, replace(one, rewards={"P1": draw(values)}), reproduced=draw(st.booleans()))
        for one in episodes
        for call in one.calls
        if draw(st.booleans())
    ]
    return group_of(*episodes), replays


@settings(max_examples=30)
@given(case=replayed())
def test_each_call_has_its_replays_difference_or_the_episodes_advantage(
    case: tuple[EpisodeGroup, list[Replay]],
) -> None:
    group, replays = case
    result, usual = credited(group, replays), credited(group, []).of_agents
    found = {(one.request.episode.repeat, one.request.resampled_call): one for one in replays if one.usable}
    for episode in group.episodes:
        for call in episode.calls:
            key = (episode.repeat, call.index)
            other = found[key].episode.rewards["P1"] if key in found else None
            expected = usual[episode.repeat, "P1"] if other is None else episode.rewards["P1"] - other
            assert result.of_calls[key] == pytest.approx(expected)


@settings(max_examples=30)
@given(case=replayed())
def test_a_group_of_one_gives_zero(case: tuple[EpisodeGroup, list[Replay]]) -> None:
    group, replays = case
    result = credited(group_of(group.episodes[0]), replays)
    assert not any(result.of_calls.values()) and result.num_pools == result.num_singletons


@settings(max_examples=30)
@given(case=replayed())
def test_other_names_of_tags_change_only_names(case: tuple[EpisodeGroup, list[Replay]]) -> None:
    group, replays = case

    def renamed(episode: Episode) -> Episode:
        calls = tuple(replace(call, target_tag="wolf") for call in episode.calls)
        return replace(episode, agent_tags={"P1": "wolf"}, calls=calls)

    swapped = [
        replace(
            one,
            episode=renamed(one.episode),
            request=replace(one.request, episode=renamed(one.request.episode)),
        )
        for one in replays
    ]
    again = credited(group_of(*map(renamed, group.episodes)), swapped)
    assert again.of_calls == credited(group, replays).of_calls


def test_advantages_on_another_scale_are_refused() -> None:
    asked = ["workflow=werewolves", "trainable_targets=[seer,witch]", "credit=counterfactual"]
    assert compose(asked, run_dir="x").algorithm.advantage == "dr_grpo"
    with pytest.raises(ConfigError, match=r"algorithm.advantage=grpo .* choose algorithm.advantage=dr_grpo"):
        compose([*asked, "algorithm.advantage=grpo"], run_dir="x")
    with pytest.raises(ConfigError, match=r"algorithm.scale_rewards=batch .* credit=counterfactual"):
        compose([*asked, "algorithm.scale_rewards=batch"], run_dir="x")
