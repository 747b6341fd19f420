"""Baselines per (task, tag), over episodes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.factories import TASK, make_call, make_episode, make_group

from ajet.algorithms.advantages import AdvantageKind, group_advantages
from ajet.records import EpisodeGroup

rewards_lists = st.lists(st.floats(-5, 5), min_size=2, max_size=6)


def test_grpo_divides_by_the_sample_deviation_plus_epsilon() -> None:
    # Rewards 0, 0, 1: mean 1/3, std sqrt(1/3) = 0.57735.
    values = group_advantages(make_group(0, 0, 1), "grpo").values
    assert values[2, "P1"] == pytest.approx((2 / 3) / (math.sqrt(1 / 3) + 1e-4))
    assert values[0, "P1"] == pytest.approx((-1 / 3) / (math.sqrt(1 / 3) + 1e-4))


def test_dr_grpo_only_centres_and_rloo_leaves_the_episode_itself_out() -> None:
    assert group_advantages(make_group(0, 0, 1), "dr_grpo").values[2, "P1"] == pytest.approx(2 / 3)
    rloo = group_advantages(make_group(0, 0, 1), "rloo").values
    assert rloo[2, "P1"] == 1.0 and rloo[0, "P1"] == -0.5


def test_a_flat_group_and_a_singleton_contribute_zero_and_are_named() -> None:
    flat = group_advantages(make_group(1, 1, 1), "grpo")
    assert set(flat.values.values()) == {0.0} and flat.zero_std_tags == {"seer"} and not flat.singleton_tags
    single = group_advantages(make_group(1), "rloo")
    assert single.values == {(0, "P1"): 0.0} and single.singleton_tags == {"seer"}


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
    assert result.values == {(0, "P1"): -1.0, (1, "P1"): 1.0, (0, "P2"): 0.0, (1, "P2"): 0.0}
    assert result.zero_std_tags == {"witch"} and result.by_tag["seer"] == (-1.0, 1.0)


def test_opponents_under_one_baseline_are_measured_against_half_a_win() -> None:
    tags = {"P1": "seer", "P2": "wolf"}
    seer_wins = [1.0, 0.0, 0.0, 0.0]
    group = EpisodeGroup(
        task=TASK,
        episodes=tuple(make_episode(i, {"P1": won, "P2": 1 - won}, tags=tags) for i, won in enumerate(seer_wins)),
    )
    by_task = group_advantages(group, "dr_grpo", baseline_per="task")
    assert [by_task.values[i, "P1"] for i in range(4)] == [0.5, -0.5, -0.5, -0.5]
    # Leaving one out leaves the whole episode out, so both sides' baseline stays half a win.
    assert group_advantages(group, "rloo", baseline_per="task").values == by_task.values
    assert [group_advantages(group, "dr_grpo").values[i, "P1"] for i in range(4)] == [0.75, -0.25, -0.25, -0.25]


def test_one_episode_has_no_baseline_however_many_tags_it_has() -> None:
    group = EpisodeGroup(
        task=TASK, episodes=(make_episode(0, {"P1": 1.0, "P2": 0.0}, tags={"P1": "seer", "P2": "wolf"}),)
    )
    result = group_advantages(group, "grpo", baseline_per="task")
    assert set(result.values.values()) == {0.0} and result.singleton_tags == {"seer", "wolf"}


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
    assert group_advantages(group, "dr_grpo").values[0, "P2"] == -0.75


def test_a_malformed_reply_costs_the_agent_who_gave_it() -> None:
    tags = {"P1": "seer", "P2": "witch"}
    malformed = make_call((1,), (2,), agent="P1", format_error="no JSON")
    group = EpisodeGroup(
        task=TASK,
        episodes=(
            make_episode(0, {"P1": 1.0, "P2": 1.0}, malformed, malformed, tags=tags),
            make_episode(1, {"P1": 1.0, "P2": 1.0}, tags=tags),
        ),
    )
    result = group_advantages(group, "dr_grpo", format_penalty=0.5)
    assert result.values == {(0, "P1"): -0.5, (1, "P1"): 0.5, (0, "P2"): 0.0, (1, "P2"): 0.0}
    assert set(group_advantages(group, "dr_grpo").values.values()) == {0.0}
    assert group.episodes[0].rewards["P1"] == 1.0


@pytest.mark.parametrize("kind", ["grpo", "dr_grpo", "rloo"])
def test_a_flat_tag_contributes_zero_even_where_its_agents_differ(kind: AdvantageKind) -> None:
    # Two wolves split one point in every episode: the tag's value is always .5, and dividing by its std would explode.
    tags = {"P1": "wolf", "P2": "wolf"}
    episodes = tuple(make_episode(i, {"P1": 1.0, "P2": 0.0}, tags=tags) for i in range(3))
    result = group_advantages(EpisodeGroup(task=TASK, episodes=episodes), kind)
    assert set(result.values.values()) == {0.0} and result.zero_std_tags == {"wolf"}


def test_a_lost_episode_is_no_part_of_the_baseline() -> None:
    lost = make_episode(2, {}, tags={"P1": "seer"}, status="timeout")
    group = EpisodeGroup(task=TASK, episodes=(*make_group(0, 1).episodes, lost))
    result = group_advantages(group, "dr_grpo")
    assert result.values == {(0, "P1"): -0.5, (1, "P1"): 0.5}


@given(rewards_lists, st.sampled_from(["grpo", "dr_grpo", "rloo"]))
def test_advantages_of_a_group_sum_to_zero(rewards: list[float], kind: str) -> None:
    values = group_advantages(make_group(*rewards), kind).values  # type: ignore[arg-type]
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
    assert group_advantages(talkative, "grpo").values == group_advantages(make_group(*rewards), "grpo").values
