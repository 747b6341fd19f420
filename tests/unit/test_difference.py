"""`credit=difference`: what a role has added, from replays with numbers one can check by hand."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.factories import TASK, make_call, make_episode

from ajet.config.algorithm import AlgorithmConfig
from ajet.config.compose import compose
from ajet.config.options import option
from ajet.errors import AlgorithmError, ConfigError
from ajet.records import Episode, EpisodeGroup, Replay, ReplayRequest
from ajet.train.algorithms.credit.base import CreditRule
from ajet.train.algorithms.pools import GroupAdvantages
from ajet.train.algorithms.replayed import check_requests
from ajet.train.algorithms.rule import LearningRule, learning_rule

TAGS = {"P1": "seer", "P2": "wolf", "P3": "wolf"}
Rewards = dict[str, float]


def rule_of(num_replays: int = 1) -> LearningRule:
    return learning_rule(AlgorithmConfig(advantage="dr_grpo"), option("credit", "difference")(num_replays=num_replays))


def episode_of(repeat: int, rewards: Rewards, *speakers: str) -> Episode:
    calls = [make_call((1,), (2,), agent=name, tag=TAGS[name], index=i) for i, name in enumerate(speakers)]
    return make_episode(repeat, rewards, *calls, tags={name: TAGS[name] for name in rewards})


def replay_of(episode: Episode, tag: str, rewards: Rewards, *, draw: int = 0, reproduced: bool = True) -> Replay:
    request = ReplayRequest(episode=episode, replaced_tag=tag, draw=draw)
    again = make_episode(episode.repeat, rewards, tags={name: TAGS[name] for name in rewards})
    return Replay(request=request, episode=again, is_reproduced=reproduced)


def group_of(*episodes: Episode) -> EpisodeGroup:
    return EpisodeGroup(task=TASK, episodes=episodes)


def test_a_role_is_asked_for_again_once_an_episode_in_which_it_spoke() -> None:
    spoken = episode_of(0, {"P1": 1.0, "P2": 0.0}, "P1", "P2", "P1")
    silent = episode_of(1, {"P1": 1.0, "P2": 0.0}, "P1")
    lost = make_episode(2, {}, status="timeout")
    requests = rule_of(2).replay_requests([group_of(spoken, silent, lost)], random.Random(0))
    assert [(one.episode.repeat, one.replaced_tag, one.draw) for one in requests] == [
        *[(0, "seer", 0), (0, "seer", 1), (0, "wolf", 0), (0, "wolf", 1)],
        *[(1, "seer", 0), (1, "seer", 1)],
    ]


def test_what_only_one_episode_has_rewards_of_is_not_played_again() -> None:
    both, seer_alone = (
        episode_of(0, {"P1": 1.0, "P2": 0.0}, "P1", "P2"),
        episode_of(1, {"P1": 0.0}, "P1"),
    )
    lost = make_episode(2, {}, status="timeout")
    assert rule_of().replay_requests([group_of(both, lost)], random.Random(0)) == []
    requests = rule_of().replay_requests([group_of(both, seer_alone)], random.Random(0))
    assert [(one.episode.repeat, one.replaced_tag) for one in requests] == [(0, "seer"), (1, "seer")]


def test_a_role_gets_what_it_added() -> None:
    first = episode_of(0, {"P1": 4.0, "P2": 1.0, "P3": 3.0}, "P1", "P2", "P3")
    second = episode_of(1, {"P1": 2.0, "P2": 0.0, "P3": 0.0}, "P1", "P2", "P3")
    replays = [
        replay_of(first, "seer", {"P1": 3.0, "P2": 9.0, "P3": 9.0}),
        replay_of(second, "seer", {"P1": 2.0, "P2": 9.0, "P3": 9.0}),
        # P3 was not in the game without its role's policy: the mean of its role, which is P2's 1.
        replay_of(first, "wolf", {"P1": 9.0, "P2": 1.0}),
        replay_of(second, "wolf", {"P1": 9.0, "P2": 2.0, "P3": 0.0}),
    ]
    # Differences: seer 1, 0; wolves (0, 2), (-2, 0), whose means are 1 and -1.
    assert rule_of().group_advantages(group_of(first, second), replays).of_agents == {
        **{(0, "P1"): 0.5, (0, "P2"): 0.0, (0, "P3"): 2.0},
        **{(1, "P1"): -0.5, (1, "P2"): -2.0, (1, "P3"): 0.0},
    }


def test_several_replays_of_an_episode_are_one_mean() -> None:
    first, second = episode_of(0, {"P1": 4.0}, "P1"), episode_of(1, {"P1": 4.0}, "P1")
    replays = [replay_of(first, "seer", {"P1": value}, draw=i) for i, value in enumerate([1.0, 3.0])]
    replays.append(replay_of(second, "seer", {"P1": 4.0}))
    values = rule_of(2).group_advantages(group_of(first, second), replays).of_agents
    assert values == {(0, "P1"): 1.0, (1, "P1"): -1.0}


def test_an_episode_without_a_usable_replay_is_compared_with_nothing_and_one_without_calls_added_nothing() -> None:
    played = [episode_of(i, {"P1": 5.0}, "P1") for i in range(3)]
    silent = episode_of(3, {"P1": 5.0})
    replays = [
        replay_of(played[0], "seer", {"P1": 2.0}),
        replay_of(played[1], "seer", {"P1": 2.0}, reproduced=False),
        replay_of(played[2], "seer", {"P1": 5.0}),
    ]
    # Differences 3, none, 0 and 0.
    result = rule_of().group_advantages(group_of(*played, silent), replays)
    assert result.of_agents == {(0, "P1"): 2.0, (1, "P1"): 0.0, (2, "P1"): -1.0, (3, "P1"): -1.0}


def test_what_a_malformed_reply_costs_is_not_taken_back_by_the_replay() -> None:
    spoilt = make_call((1,), (2,), format_error="no JSON")
    first, second = make_episode(0, {"P1": 1.0}, spoilt), make_episode(1, {"P1": 1.0}, make_call((1,), (2,)))
    rule = learning_rule(AlgorithmConfig(advantage="dr_grpo", format_penalty=0.5), option("credit", "difference")())
    replays = [replay_of(one, "seer", {"P1": 1.0}) for one in (first, second)]
    assert rule.group_advantages(group_of(first, second), replays).of_agents == {(0, "P1"): -0.25, (1, "P1"): 0.25}


@st.composite
def replayed(draw: st.DrawFn) -> tuple[EpisodeGroup, list[Replay]]:
    """Two to four episodes in which all speak, and a replay for each role of each, of which some are lost."""
    values = st.sampled_from([0.0, 1.0, -3.0, 0.25])
    episodes, replays = [], []
    for repeat in range(draw(st.integers(2, 4))):
        names = sorted(TAGS)
        speakers = names + draw(st.lists(st.sampled_from(names), max_size=3))
        episodes.append(episode_of(repeat, {name: draw(values) for name in names}, *speakers))
        for tag in ("seer", "wolf"):
            rewards = {name: draw(values) for name in names}
            replays.append(replay_of(episodes[-1], tag, rewards, reproduced=draw(st.integers(0, 4)) > 0))
    return group_of(*episodes), replays


def credited(group: EpisodeGroup, replays: list[Replay]) -> GroupAdvantages:
    return rule_of().group_advantages(group, replays)


@settings(max_examples=30)
@given(case=replayed())
def test_how_many_calls_there_were_changes_no_advantage(case: tuple[EpisodeGroup, list[Replay]]) -> None:
    group, replays = case
    once = group_of(*(replace(one, calls=one.calls[: len(TAGS)]) for one in group.episodes))
    assert credited(once, replays).of_agents == credited(group, replays).of_agents


@settings(max_examples=30)
@given(case=replayed())
def test_a_group_of_one_gives_zero(case: tuple[EpisodeGroup, list[Replay]]) -> None:
    group, replays = case
    result = credited(group_of(group.episodes[0]), replays)
    assert not any(result.of_agents.values()) and result.num_pools == result.num_singletons


@settings(max_examples=30)
@given(case=replayed())
def test_other_names_of_tags_change_only_names(case: tuple[EpisodeGroup, list[Replay]]) -> None:
    group, replays = case
    other = {"seer": "wolf", "wolf": "seer"}

    def renamed(episode: Episode) -> Episode:
        tags = {name: other[tag] for name, tag in episode.agent_tags.items()}
        calls = tuple(replace(call, target_tag=other[call.target_tag]) for call in episode.calls)
        return replace(episode, agent_tags=tags, calls=calls)

    swapped = [
        replace(
            one,
            episode=renamed(one.episode),
            request=replace(one.request, replaced_tag=other[one.request.replaced_tag or ""]),
        )
        for one in replays
    ]
    again = credited(group_of(*map(renamed, group.episodes)), swapped)
    assert again.of_agents == credited(group, replays).of_agents


def test_a_rule_may_only_ask_for_what_can_be_played_again() -> None:
    group = group_of(episode_of(0, {"P1": 1.0}, "P1"), make_episode(1, {}, status="timeout"))
    (episode, lost), rule = group.episodes, rule_of()
    for request, words in [
        (ReplayRequest(episode=lost, replaced_tag="seer"), "not a usable one of the step"),
        (ReplayRequest(episode=episode), "either replaced_tag or resampled_call"),
        (ReplayRequest(episode=episode, replaced_tag="wolf"), "replaces wolf, which is not trained"),
        (ReplayRequest(episode=episode, resampled_call=7), "resamples call 7"),
    ]:
        with pytest.raises(ValueError, match=words):
            check_requests([request], [group])
    asked = ReplayRequest(episode=episode, replaced_tag="seer")
    with pytest.raises(ValueError, match="asks twice"):
        check_requests([asked, asked], [group])

    class Nothing(CreditRule):
        def replays(self, groups: object, rng: object) -> None:  # type: ignore[override]
            pass

    with pytest.raises(AlgorithmError, match="credit=difference: replays gave None, not a list of ReplayRequest"):
        replace(rule, credit=Nothing(None)).replay_requests([group], random.Random(0))


def test_settings_that_cannot_work_with_replays_are_refused() -> None:
    asked = ["credit=difference", "trainable_targets=[seer,witch]"]
    with pytest.raises(ConfigError, match=r"max_steps_off_policy=1: credit=difference plays .* again"):
        compose(
            ["workflow=werewolves", *asked, "engine=vllm_server", "rollout.max_steps_off_policy=1"],
            run_dir="x",
        )
    with pytest.raises(ConfigError, match=r"opponent=scripted: the workflow has no scripted players for speaker"):
        compose(
            ["workflow=signals", "workflow.scripted=false", "trainable_targets=null", "credit=difference"], run_dir="x"
        )
    # All roles are trained, and the opponent is asked nevertheless.
    overrides = ["workflow=signals", "credit=difference", "opponent=random", "trainable_targets=[speaker,listener]"]
    assert compose(overrides, run_dir="x").credit.asks_opponent
