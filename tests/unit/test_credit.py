"""Credit rules: who gets which reward, and whose rewards share a baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.factories import TASK, make_call, make_episode

from ajet.config.algorithm import AlgorithmConfig
from ajet.config.compose import compose
from ajet.config.options import option, options
from ajet.errors import ConfigError
from ajet.records import Episode, EpisodeGroup
from ajet.train.algorithms.pools import GroupAdvantages
from ajet.train.algorithms.rule import LearningRule, learning_rule

TAGS = {"P1": "seer", "P2": "wolf", "P3": "wolf"}
RULES = sorted(options("credit"))
SETTINGS: Mapping[str, Mapping[str, Any]] = {"hierarchical": {"proposers": ["seer"], "solvers": ["wolf"]}}
"""Of rules that cannot do without."""
PER_CALL = ("agent_turn", "critic", "per_turn")
"""Rules that are asked to look at calls."""
ADVANTAGES: Mapping[str, str] = {"counterfactual": "dr_grpo", "critic": "dr_grpo", "rae": "dr_grpo"}
"""Of rules that can have but one."""


def rule_of(credit: str, *, advantage: str = "dr_grpo", penalty: float = 0.0, **settings: Any) -> LearningRule:
    return learning_rule(
        AlgorithmConfig(advantage=ADVANTAGES.get(credit, advantage), format_penalty=penalty),
        option("credit", credit)(**{**SETTINGS.get(credit, {}), **settings}),
    )


def credited(group: EpisodeGroup, credit: str, **settings: Any) -> GroupAdvantages:
    return rule_of(credit, **settings).group_advantages(group)


def group_of(*episodes: Episode) -> EpisodeGroup:
    return EpisodeGroup(task=TASK, episodes=episodes)


def test_each_rule_pools_as_its_name_says() -> None:
    # Two episodes of a seer and two wolves.
    group = group_of(
        make_episode(0, {"P1": 1.0, "P2": 0.0, "P3": 4.0}, tags=TAGS),
        make_episode(1, {"P1": 3.0, "P2": 2.0, "P3": 2.0}, tags=TAGS),
    )
    # Baselines: seer 2, wolf 2.
    assert credited(group, "per_tag").of_agents == {
        **{(0, "P1"): -1.0, (0, "P2"): -2.0, (0, "P3"): 2.0},
        **{(1, "P1"): 1.0, (1, "P2"): 0.0, (1, "P3"): 0.0},
    }
    # Baselines: P1 2, P2 1, P3 3.
    assert credited(group, "per_agent").of_agents == {
        **{(0, "P1"): -1.0, (0, "P2"): -1.0, (0, "P3"): 1.0},
        **{(1, "P1"): 1.0, (1, "P2"): 1.0, (1, "P3"): -1.0},
    }
    # Means over tags: (1 + 2) / 2 and (3 + 2) / 2.
    assert credited(group, "shared").of_agents == {(i, name): i - 0.5 for i in (0, 1) for name in TAGS}


def test_a_team_reward_is_scaled_as_so_many_plain_values() -> None:
    group = group_of(
        *(make_episode(i, {"P1": won, "P2": 0.0, "P3": won}, tags=TAGS) for i, won in enumerate([0.0, 0.0, 1.0]))
    )
    # Team rewards 0, 0, .75: mean .25, std with n - 1 sqrt(.1875).
    values = credited(group, "shared", advantage="grpo").of_agents
    assert values[2, "P2"] == pytest.approx(0.5 / (math.sqrt(0.1875) + 1e-4)) == values[2, "P1"]
    assert credited(group, "shared", advantage="rloo").of_agents[2, "P3"] == 0.75


def test_penalties_stay_with_whoever_gave_the_malformed_reply() -> None:
    spoilt = make_call((1,), (2,), agent="P2", tag="wolf", format_error="no JSON")
    group = group_of(
        make_episode(0, {"P1": 0.0, "P2": 0.0, "P3": 0.0}, spoilt, tags=TAGS),
        make_episode(1, {"P1": 1.0, "P2": 1.0, "P3": 1.0}, tags=TAGS),
    )
    # Totals of the first episode 0, -.3, 0: its mean -.1, the baseline .45.
    values = credited(group, "shared", penalty=0.3).of_agents
    assert [values[0, name] for name in TAGS] == pytest.approx([-0.45, -0.75, -0.45])
    assert [values[1, name] for name in TAGS] == pytest.approx([0.55] * 3)


def two_games() -> EpisodeGroup:
    """Two episodes of one agent with three calls and two, won and lost, whose calls were given 1, 0, 2 and 0, -1."""
    games = [(5.0, [1.0, 0.0, 2.0]), (-1.0, [0.0, -1.0])]
    return group_of(
        *(
            make_episode(
                i, {"P1": total}, *(replace(make_call((1,), (2,), index=k), reward=r) for k, r in enumerate(given))
            )
            for i, (total, given) in enumerate(games)
        )
    )


def test_a_turn_is_credited_with_what_came_after_it() -> None:
    # The episodes themselves gave 2 and 0. Returns: 5, 4, 4 and -1, -1; baselines 2 and 1.5; the third turn is alone.
    result = credited(two_games(), "per_turn")
    assert result.of_calls == {(0, 0): 3.0, (0, 1): 2.5, (0, 2): 0.0, (1, 0): -3.0, (1, 1): -2.5}
    assert result.of_agents == pytest.approx({(0, "P1"): 5.5 / 3, (1, "P1"): -2.75})
    assert result.num_pools == {"seer": 3} and result.num_singletons == {"seer": 1}
    # Discounted by half: 1 + (0 + 4 / 2) / 2 = 2, 2, 4 and -.5, -1; baselines .75 and .5.
    values = credited(two_games(), "per_turn", discount=0.5).of_calls
    assert values == {(0, 0): 1.25, (0, 1): 1.5, (0, 2): 0.0, (1, 0): -1.25, (1, 1): -1.5}


def test_an_agents_turn_has_its_own_reward_and_its_share_of_the_episodes() -> None:
    # 2 and 0 for the episodes: 3, 2, 4 and 0, -1; baselines 1.5 and .5.
    values = credited(two_games(), "agent_turn").of_calls
    assert values == {(0, 0): 1.5, (0, 1): 1.5, (0, 2): 0.0, (1, 0): -1.5, (1, 1): -1.5}
    # The replies' own alone: 1, 0, 2 and 0, -1.
    values = credited(two_games(), "agent_turn", team_weight=0.0).of_calls
    assert values == {(0, 0): 0.5, (0, 1): 0.5, (0, 2): 0.0, (1, 0): -0.5, (1, 1): -0.5}


def test_a_malformed_reply_costs_its_own_turn_alone() -> None:
    spoilt = make_call((1,), (2,), index=1, format_error="no JSON")
    group = group_of(
        make_episode(0, {"P1": 1.0}, make_call((1,), (2,)), spoilt),
        make_episode(1, {"P1": 1.0}, make_call((1,), (2,)), make_call((1,), (2,), index=1)),
    )
    for credit in ("agent_turn", "per_turn"):
        result = credited(group, credit, penalty=0.5)
        assert result.of_calls == {(0, 0): 0.0, (0, 1): -0.25, (1, 0): 0.0, (1, 1): 0.25}
        assert result.num_zero_std == {"seer": 1}


def won_and_lost(*rewards: float) -> EpisodeGroup:
    return group_of(*(make_episode(i, {"P1": reward}) for i, reward in enumerate(rewards)))


def test_a_running_baseline_is_what_earlier_steps_have_left() -> None:
    rule = rule_of("rae", decay=0.5)
    # The first step is compared with its own mean: two tasks with 1, 0 and 1, 1, mean .75.
    first = rule.step_advantages([won_and_lost(1.0, 0.0), won_and_lost(1.0, 1.0)])
    assert [list(each.of_agents.values()) for each in first] == [[0.25, -0.75], [0.25, 0.25]]
    assert not first[1].num_zero_std, "a task that all have won says something"
    # Four episodes with that mean have left it as it is; the next two are compared with it.
    assert list(rule.group_advantages(won_and_lost(0.0, 0.0)).of_agents.values()) == [-0.75, -0.75]
    # They keep a quarter of it: .1875.
    assert list(rule.group_advantages(won_and_lost(1.0, 0.0)).of_agents.values()) == [0.8125, -0.1875]


def test_a_single_agents_baseline_is_the_papers_moving_average() -> None:
    rule, baseline = rule_of("rae", decay=0.9), 1.0
    rule.group_advantages(won_and_lost(1.0, 1.0))
    for reward in (0.0, 1.0, 0.0):
        rule.group_advantages(won_and_lost(reward))
        baseline = 0.9 * baseline + 0.1 * reward
        assert rule.state_dict() == {"baselines": {"seer": pytest.approx(baseline)}}


def test_a_running_baseline_is_kept_and_restored() -> None:
    whole, resumed = rule_of("rae"), rule_of("rae")
    whole.group_advantages(won_and_lost(1.0, 0.0, 0.0))
    resumed.load_state_dict(whole.state_dict())
    later = won_and_lost(1.0, 1.0, 0.0)
    assert resumed.group_advantages(later).of_agents == whole.group_advantages(later).of_agents
    assert resumed.state_dict() == whole.state_dict() != rule_of("rae").state_dict()


def test_solvers_are_compared_with_those_who_had_the_same_proposal() -> None:
    group = group_of(
        make_episode(0, {"P1": 1.0, "P2": 0.0, "P3": 2.0}, tags=TAGS),
        make_episode(1, {"P1": 0.0, "P2": 5.0, "P3": 5.0}, tags=TAGS),
    )
    result = credited(group, "hierarchical")
    assert result.of_agents == {
        **{(0, "P1"): 0.5, (0, "P2"): -1.0, (0, "P3"): 1.0},
        **{(1, "P1"): -0.5, (1, "P2"): 0.0, (1, "P3"): 0.0},
    }
    assert result.num_pools == {"seer": 1, "wolf": 2} and result.num_zero_std == {"wolf": 1}
    # GRPO's std of 0 and 2 with n - 1 is sqrt(2).
    values = credited(group, "hierarchical", advantage="grpo").of_agents
    assert values[0, "P3"] == pytest.approx(1 / (math.sqrt(2) + 1e-4))
    assert credited(group, "hierarchical", advantage="rloo").of_agents[0, "P3"] == 2.0


@st.composite
def groups(draw: st.DrawFn) -> EpisodeGroup:
    """Two to five episodes of up to three agents, whose rewards may differ, with up to four calls in all."""
    episodes = []
    for repeat in range(draw(st.integers(2, 5))):
        names = draw(st.lists(st.sampled_from(sorted(TAGS)), min_size=1, unique=True))
        spoken = draw(st.lists(st.sampled_from(names), max_size=4))
        calls = [
            replace(
                make_call((1,), (2,) * draw(st.integers(1, 3)), agent=name, tag=TAGS[name], index=i),
                reward=draw(st.sampled_from([0.0, 0.0, 1.0, -0.5, 1e8])),
            )
            for i, name in enumerate(spoken)
        ]
        rewards = {name: draw(st.sampled_from([0.0, 1.0, -3.0, 0.25, 1e-5, 1e9, 3e38])) for name in names}
        episodes.append(make_episode(repeat, rewards, *calls, tags={name: TAGS[name] for name in names}))
    return group_of(*episodes)


@pytest.mark.parametrize("credit", RULES)
@settings(max_examples=30)
@given(group=groups(), kind=st.sampled_from(["grpo", "dr_grpo", "rloo"]))
def test_advantages_are_finite_and_every_token_has_one(credit: str, group: EpisodeGroup, kind: str) -> None:
    result = credited(group, credit, advantage=kind)
    for episode in group.episodes:
        for call in episode.calls:
            assert len(result.of_tokens[episode.repeat][call.index]) == len(call.sampled_ids)
    assert all(map(math.isfinite, [*result.of_agents.values(), *result.of_calls.values()]))
    assert result.of_agents.keys() == {(one.repeat, name) for one in group.episodes for name in one.rewards}


@pytest.mark.parametrize("credit", RULES)
@settings(max_examples=30)
@given(group=groups())
def test_a_single_episode_teaches_nothing(credit: str, group: EpisodeGroup) -> None:
    rewards = dict.fromkeys(group.episodes[0].rewards, 1.0)
    result = credited(group_of(replace(group.episodes[0], rewards=rewards)), credit)
    assert not any(result.of_agents.values())
    assert result.num_pools == result.num_singletons + result.num_zero_std


@pytest.mark.parametrize("credit", RULES)
@settings(max_examples=30)
@given(group=groups(), kind=st.sampled_from(["grpo", "dr_grpo", "rloo"]))
def test_other_names_of_tags_change_only_names(credit: str, group: EpisodeGroup, kind: str) -> None:
    other = {"seer": "wolf", "wolf": "seer"}
    renamed = group_of(
        *(
            replace(
                episode,
                agent_tags={name: other[tag] for name, tag in episode.agent_tags.items()},
                calls=tuple(replace(call, target_tag=other[call.target_tag]) for call in episode.calls),
            )
            for episode in group.episodes
        )
    )
    swapped = {name: [other[tag] for tag in tags] for name, tags in SETTINGS.get(credit, {}).items()}
    first, second = credited(group, credit, advantage=kind), credited(renamed, credit, advantage=kind, **swapped)
    assert first.of_agents == pytest.approx(second.of_agents) and first.of_calls == pytest.approx(second.of_calls)
    assert {other[tag]: num for tag, num in first.num_zero_std.items()} == second.num_zero_std


@pytest.mark.parametrize("credit", [name for name in RULES if name not in PER_CALL])
@settings(max_examples=30)
@given(group=groups(), kind=st.sampled_from(["grpo", "dr_grpo", "rloo"]))
def test_how_many_calls_there_were_changes_no_advantage(credit: str, group: EpisodeGroup, kind: str) -> None:
    silent = group_of(*(replace(episode, calls=()) for episode in group.episodes))
    talkative, expected = credited(group, credit, advantage=kind), credited(silent, credit, advantage=kind).of_agents
    assert talkative.of_agents == expected
    for episode in group.episodes:
        for call in episode.calls:
            assert talkative.of_calls[episode.repeat, call.index] == expected[episode.repeat, call.agent_name]


@pytest.mark.parametrize("credit", RULES)
def test_a_command_names_each_rule(credit: str) -> None:
    roles = zip(SETTINGS.get(credit, {}), ("seer", "witch"), strict=False)
    settings = [f"credit.{name}=[{tag}]" for name, tag in roles]
    overrides = ["workflow=werewolves", "trainable_targets=[seer,witch]", f"credit={credit}", *settings]
    assert compose(overrides, run_dir="x").credit.name == credit


def test_a_rule_that_has_nothing_to_pool_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"credit=per_task .* seer is trained alone: choose credit=per_tag"):
        compose(["workflow=werewolves", "trainable_targets=[seer]", "credit=per_task"], run_dir="x")
    for overrides, words in [
        (["credit=hierarchical"], r"credit=hierarchical needs credit.proposers: name tags among seer, witch"),
        (["credit=hierarchical", "credit.proposers=[seer]"], r"needs credit.solvers: name tags among seer, witch"),
        (["credit=hierarchical", "credit.proposers=[seer]", "credit.solvers=[seer]"], r"both name seer"),
        (["credit=hierarchical", "credit.proposers=[seer]", "credit.solvers=[wolf]"], r"name seer, wolf, and seer, wi"),
        (["credit=critic", "algorithm.advantage=grpo"], r"algorithm.advantage=grpo .*choose algorithm.advantage=dr_gr"),
        (["credit=rae", "algorithm.advantage=rloo"], r"algorithm.advantage=rloo .* choose algorithm.advantage=dr_grpo"),
        (["credit=per_turn", "credit.discount=2"], r"credit.discount must be at least 0 and at most 1, not 2.0"),
        (["credit=per_tag", "credit.discount=1"], r"no effect with credit=per_tag: .* credit=critic\|per_turn"),
    ]:
        with pytest.raises(ConfigError, match=words):
            compose(["workflow=werewolves", "trainable_targets=[seer,witch]", *overrides], run_dir="x")
    with pytest.raises(
        ConfigError,
        match=r"credit=shares: no such option; choose one of agent_turn, counterfactual, critic, difference, ",
    ):
        compose(["workflow=werewolves", "credit=shares"], run_dir="x")
