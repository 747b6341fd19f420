"""Baselines per (task, tag), over episodes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.factories import TASK, make_call, make_episode, make_group

from ajet.config.algorithm import AlgorithmConfig
from ajet.config.options import option
from ajet.records import EpisodeGroup
from ajet.train.algorithms.pools import GroupAdvantages
from ajet.train.algorithms.rule import learning_rule


def group_advantages(
    group: EpisodeGroup, kind: str, *, format_penalty: float = 0.0, credit: str = "per_tag"
) -> GroupAdvantages:
    algorithm = AlgorithmConfig(advantage=kind, format_penalty=format_penalty)
    return learning_rule(algorithm, option("credit", credit)()).group_advantages(group)


rewards_lists = st.lists(st.floats(-5, 5), min_size=2, max_size=6)


def test_grpo_divides_by_the_sample_deviation_plus_epsilon() -> None:
    # Rewards 0, 0, 1: mean 1/3, std sqrt(1/3) = 0.57735.
    values = group_advantages(make_group(0, 0, 1), "grpo").of_agents
    assert values[2, "P1"] == pytest.approx((2 / 3) / (math.sqrt(1 / 3) + 1e-4))
    assert values[0, "P1"] == pytest.approx((-1 / 3) / (math.sqrt(1 / 3) + 1e-4))


def test_dr_grpo_only_centres_and_rloo_leaves_the_episode_itself_out() -> None:
    assert group_advantages(make_group(0, 0, 1), "dr_grpo").of_agents[2, "P1"] == pytest.approx(2 / 3)
    rloo = group_advantages(make_group(0, 0, 1), "rloo").of_agents
    assert rloo[2, "P1"] == 1.0 and rloo[0, "P1"] == -0.5


def test_a_flat_group_and_a_singleton_contribute_zero_and_are_named() -> None:
    flat = group_advantages(make_group(1, 1, 1), "grpo")
    assert set(flat.of_agents.values()) == {0.0} and flat.num_zero_std == {"seer": 1} and not flat.num_singletons
    single = group_advantages(make_group(1), "rloo")
    assert single.of_agents == {(0, "P1"): 0.0} and single.num_singletons == {"seer": 1}


def test_every_tag_has_a_baseline_of_its_own() -> None:
    tags = {"P1": "seer", "P2": "witch"}
    group = EpisodeGroup(
        task=TASK,
        episodes=(
            make_episode(0, {"P1": 0.0, "P2": 5.0}, tags=tags),
            make_episode(1, {"P1": 2.0, "P2": 5.0}, tags=tags),
        ),
    )
    result = group_advantages(group, "dr_grpo")
    assert result.of_agents == {(0, "P1"): -1.0, (1, "P1"): 1.0, (0, "P2"): 0.0, (1, "P2"): 0.0}
    assert result.num_zero_std == {"witch": 1} and result.of_tags["seer"] == {(0, "P1"): [-1.0], (1, "P1"): [1.0]}


def test_opponents_under_one_baseline_are_measured_against_half_a_win() -> None:
    tags = {"P1": "seer", "P2": "wolf"}
    seer_wins = [1.0, 0.0, 0.0, 0.0]
    group = EpisodeGroup(
        task=TASK,
        episodes=tuple(make_episode(i, {"P1": won, "P2": 1 - won}, tags=tags) for i, won in enumerate(seer_wins)),
    )
    by_task = group_advantages(group, "dr_grpo", credit="per_task")
    assert [by_task.of_agents[i, "P1"] for i in range(4)] == [0.5, -0.5, -0.5, -0.5]
    # Leaving one out leaves the whole episode out, so both sides' baseline stays half a win.
    assert group_advantages(group, "rloo", credit="per_task").of_agents == by_task.of_agents
    assert [group_advantages(group, "dr_grpo").of_agents[i, "P1"] for i in range(4)] == [0.75, -0.25, -0.25, -0.25]


def test_one_episode_has_no_baseline_however_many_tags_it_has() -> None:
    group = EpisodeGroup(
        task=TASK, episodes=(make_episode(0, {"P1": 1.0, "P2": 0.0}, tags={"P1": "seer", "P2": "wolf"}),)
    )
    result = group_advantages(group, "grpo", credit="per_task")
    assert set(result.of_agents.values()) == {0.0} and result.num_singletons == {"seer": 1, "wolf": 1}


def test_agents_of_one_tag_count_as_one_value_an_episode() -> None:
    tags = {"P1": "wolf", "P2": "wolf"}
    group = EpisodeGroup(
        task=TASK,
        episodes=(
            make_episode(0, {"P1": 1.0, "P2": 0.0}, tags=tags),
            make_episode(1, {"P1": 1.0}, tags={"P1": "wolf"}),
        ),
    )
    # Episode means .5 and 1: baseline .75, though three agents average .67.
    assert group_advantages(group, "dr_grpo").of_agents[0, "P2"] == -0.75


def test_a_malformed_reply_costs_the_agent_who_gave_it() -> None:
    tags = {"P1": "seer", "P2": "witch"}
    malformed = make_call((1,), (2,), agent="P1", format_error="no JSON")
    of_an_opponent = make_call((1,), (2,), agent="P2", trained=False, format_error="no JSON")
    group = EpisodeGroup(
        task=TASK,
        episodes=(
            make_episode(0, {"P1": 1.0, "P2": 1.0}, malformed, malformed, of_an_opponent, tags=tags),
            make_episode(1, {"P1": 1.0, "P2": 1.0}, tags=tags),
        ),
    )
    result = group_advantages(group, "dr_grpo", format_penalty=0.5)
    assert result.of_agents == {(0, "P1"): -0.5, (1, "P1"): 0.5, (0, "P2"): 0.0, (1, "P2"): 0.0}
    assert set(group_advantages(group, "dr_grpo").of_agents.values()) == {0.0}
    assert group.episodes[0].rewards["P1"] == 1.0


@pytest.mark.parametrize(
    ("kind", "expected"), [("grpo", 0.5 / (math.sqrt(0.375) + 1e-4)), ("dr_grpo", 0.5), ("rloo", 0.5)]
)
def test_teammates_who_differ_are_credited_also_where_their_mean_never_changes(kind: str, expected: float) -> None:
    # Two wolves split one point in every one of three episodes: each is .5 from the mean, so spread^2 = .25 * 3 / 2.
    tags = {"P1": "wolf", "P2": "wolf"}
    episodes = tuple(make_episode(i, {"P1": 1.0, "P2": 0.0}, tags=tags) for i in range(3))
    result = group_advantages(EpisodeGroup(task=TASK, episodes=episodes), kind)
    assert not result.num_zero_std
    assert result.of_agents[0, "P1"] == pytest.approx(expected) and result.of_agents[0, "P2"] == pytest.approx(
        -expected
    )


def test_teammates_with_opposite_rewards_learn_by_turns() -> None:
    tags = {"P1": "wolf", "P2": "wolf"}
    episodes = tuple(make_episode(i, {"P1": i % 2, "P2": 1 - i % 2}, tags=tags) for i in range(8))
    values = group_advantages(EpisodeGroup(task=TASK, episodes=episodes), "rloo").of_agents
    assert [values[i, "P1"] for i in range(4)] == [-0.5, 0.5, -0.5, 0.5]
    assert all(values[i, "P2"] == -values[i, "P1"] for i in range(8))


def test_a_lost_episode_is_no_part_of_the_baseline() -> None:
    lost = make_episode(2, {}, tags={"P1": "seer"}, status="timeout")
    group = EpisodeGroup(task=TASK, episodes=(*make_group(0, 1).episodes, lost))
    result = group_advantages(group, "dr_grpo")
    assert result.of_agents == {(0, "P1"): -0.5, (1, "P1"): 0.5}


@given(rewards_lists, st.sampled_from(["grpo", "dr_grpo", "rloo"]))
def test_advantages_of_a_group_sum_to_zero(rewards: list[float], kind: str) -> None:
    values = group_advantages(make_group(*rewards), kind).of_agents
    assert sum(values.values()) == pytest.approx(0.0, abs=1e-6)


@given(rewards_lists, st.data())
def test_how_many_calls_an_episode_made_changes_nothing(rewards: list[float], data: st.DataObject) -> None:
    talkative = EpisodeGroup(
        task=TASK,
        episodes=tuple(
            make_episode(i, {"P1": r}, *[make_call((1,), (2,))] * data.draw(st.integers(0, 5)))
            for i, r in enumerate(rewards)
        ),
    )
    assert group_advantages(talkative, "grpo").of_agents == group_advantages(make_group(*rewards), "grpo").of_agents


@st.composite
def teams(draw: st.DrawFn) -> EpisodeGroup:
    """Episodes with one to three agents of a tag, whose rewards may differ and whose replies may be malformed."""
    episodes = []
    for i in range(draw(st.integers(2, 6))):
        names = [f"P{j}" for j in range(draw(st.integers(1, 3)))]
        spoilt = draw(st.lists(st.sampled_from(names), max_size=3))
        episodes.append(
            make_episode(
                i,
                {name: draw(st.sampled_from([0.0, 1.0, -3.0, 0.1, 1e-5, 1e9, -1e300, 1.7e308])) for name in names},
                *[make_call((1,), (2,), agent=name, format_error="no JSON") for name in spoilt],
            )
        )
    return EpisodeGroup(task=TASK, episodes=tuple(episodes))


@given(teams(), st.sampled_from([0.0, 0.01, 0.25, 7.0]), st.sampled_from(["per_tag", "per_task"]))
def test_no_advantage_exceeds_what_as_many_plain_values_can_reach(
    group: EpisodeGroup, penalty: float, per: str
) -> None:
    result = group_advantages(group, "grpo", format_penalty=penalty, credit=per)
    n = len(group.episodes) * max(len(episode.rewards) for episode in group.episodes)
    assert all(abs(value) <= (n - 1) / math.sqrt(n) + 1e-9 for value in result.of_agents.values())


@given(teams(), st.sampled_from([0.0, 0.01, 0.25, 7.0]), st.sampled_from(["grpo", "dr_grpo", "rloo"]))
def test_a_tag_is_silent_only_where_all_of_its_totals_are_the_same(
    group: EpisodeGroup, penalty: float, kind: str
) -> None:
    totals = [
        reward - penalty * sum(call.agent_name == name for call in episode.calls)
        for episode in group.episodes
        for name, reward in episode.rewards.items()
    ]
    differ = max(totals) - min(totals) > 1e-12 * max(1, *map(abs, totals))
    result = group_advantages(group, kind, format_penalty=penalty)
    assert any(result.of_agents.values()) == differ
    assert bool(result.num_zero_std) != differ and all(map(math.isfinite, result.of_agents.values()))


def malformed_once(*, group_size: int, team: int, reward: float = 1.0) -> EpisodeGroup:
    """Equal rewards; the first agent of the first episode gave one malformed reply."""
    names = [f"P{i}" for i in range(team)]
    spoilt = make_call((1,), (2,), agent="P0", format_error="no JSON")
    return EpisodeGroup(
        task=TASK,
        episodes=tuple(
            make_episode(i, dict.fromkeys(names, reward), *([spoilt] if i == 0 else [])) for i in range(group_size)
        ),
    )


@pytest.mark.parametrize("group_size", [2, 3, 8, 64])
@pytest.mark.parametrize("team", [1, 3])
def test_a_penalty_among_equal_rewards_is_its_share_of_a_lost_game(group_size: int, team: int) -> None:
    group = malformed_once(group_size=group_size, team=team)
    first = group.episodes[0]
    lost = replace(group, episodes=(replace(first, rewards={**first.rewards, "P0": 0.0}), *group.episodes[1:]))
    loss = group_advantages(lost, "grpo").of_agents
    for penalty in (0.01, 0.25, 1.0):
        found = group_advantages(group, "grpo", format_penalty=penalty).of_agents
        assert found == pytest.approx({key: penalty * value for key, value in loss.items()})


def test_one_malformed_reply_of_eight_costs_a_hundredth_of_a_lost_game_at_one_hundredth() -> None:
    # Lost: T = 0 among seven 1: (0 - 7/8) / sqrt(1/8) = -2.4749.
    values = group_advantages(malformed_once(group_size=8, team=1), "grpo", format_penalty=0.01).of_agents
    assert values[0, "P0"] == pytest.approx(-0.024749, rel=1e-3)


def test_where_rewards_differ_they_set_the_scale_of_a_penalty() -> None:
    # Totals .75, 1, 0, 0: mean .4375, std sqrt(.8671875 / 3).
    spoilt = make_call((1,), (2,), format_error="no JSON")
    group = EpisodeGroup(
        task=TASK, episodes=(make_episode(0, {"P1": 1.0}, spoilt), *make_group(9, 1, 0, 0).episodes[1:])
    )
    values = group_advantages(group, "grpo", format_penalty=0.25).of_agents
    assert values[0, "P1"] == pytest.approx(0.3125 / (math.sqrt(0.796875 / 3) + 1e-4))


def test_rounding_apart_rewards_are_the_same_however_large_they_are() -> None:
    assert group_advantages(make_group(0.1 + 0.2, 0.3), "grpo").num_zero_std == {"seer": 1}
    assert group_advantages(make_group(1e9 * (0.1 + 0.2), 1e9 * 0.3), "rloo").num_zero_std == {"seer": 1}
    # R of 5 and a little more are the same; less a penalty of 5 each they hardly are. Nothing is divided by 0.
    spoilt = make_call((1,), (2,), format_error="no JSON")
    odd = EpisodeGroup(
        task=TASK, episodes=(make_episode(0, {"P1": 5.0}, spoilt), make_episode(1, {"P1": 5 + 4e-12}, spoilt))
    )
    assert all(abs(v) < 1e-6 for v in group_advantages(odd, "grpo", format_penalty=5.0).of_agents.values())
