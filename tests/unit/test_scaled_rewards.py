"""What advantages are divided by: `algorithm.scale_rewards`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.factories import TASK, make_call, make_episode, make_group

from ajet.config.algorithm import AlgorithmConfig
from ajet.config.algorithm_checks import check_algorithm
from ajet.config.compose import compose
from ajet.config.options import option
from ajet.errors import ConfigError
from ajet.records import Call, CallKey, Episode, EpisodeGroup, Task
from ajet.train.algorithms.pools import GroupAdvantages
from ajet.train.algorithms.rule import learning_rule


def credited(
    *groups: EpisodeGroup,
    scale: str | None,
    advantage: str = "grpo",
    credit: str = "per_tag",
    call_values: Mapping[CallKey, float] | None = None,
    **settings: Any,
) -> list[GroupAdvantages]:
    algorithm = AlgorithmConfig(advantage=advantage, scale_rewards=scale, **settings)
    return learning_rule(algorithm, option("credit", credit)()).step_advantages(groups, call_values=call_values)


def values(*groups: EpisodeGroup, **settings: Any) -> list[float]:
    return [value for credit in credited(*groups, **settings) for value in credit.of_agents.values()]


def group_of(task_id: str, *episodes: Episode) -> EpisodeGroup:
    task = Task(task_id=task_id)
    return EpisodeGroup(task=task, episodes=tuple(replace(episode, task=task) for episode in episodes))


SPLIT, WON = make_group(0, 1), make_group(1, 1)
"""Rewards 0, 1, 1, 1: mean 3/4, squares (9 + 1 + 1 + 1) / 16, deviation sqrt(12 / 16 / 3) = 1/2. Advantages -1/2, 1/2,
0, 0: deviation sqrt(1/2 / 3)."""


def test_the_batch_divides_by_the_deviation_of_all_rewards_of_a_step_as_trl_does() -> None:
    by = 0.5 + 1e-4
    assert values(SPLIT, WON, scale="batch") == pytest.approx([-0.5 / by, 0.5 / by, 0.0, 0.0])


def test_reinforce_pp_divides_by_the_deviation_of_the_steps_advantages() -> None:
    by = math.sqrt(0.5 / 3) + 1e-4
    assert values(SPLIT, WON, scale="advantages") == pytest.approx([-0.5 / by, 0.5 / by, 0.0, 0.0])


def test_no_scale_leaves_rewards_less_baseline_and_a_group_has_its_own() -> None:
    assert values(SPLIT, WON, scale="none") == [-0.5, 0.5, 0.0, 0.0]
    assert values(SPLIT, WON, scale="group") == values(SPLIT, WON, scale=None)
    assert values(SPLIT, scale="group") == pytest.approx(
        [-0.5 / (math.sqrt(0.5) + 1e-4), 0.5 / (math.sqrt(0.5) + 1e-4)]
    )


rewards_of_groups = st.lists(st.lists(st.floats(-5, 5), min_size=4, max_size=4), min_size=2, max_size=4)


@given(rewards_of_groups)
def test_of_plain_values_both_are_the_formulas_of_trls_trainers(rewards: list[list[float]]) -> None:
    groups = [make_group(*each) for each in rewards]
    table = torch.tensor(rewards, dtype=torch.float64)
    # GRPOTrainer with scale_rewards="batch".
    grpo = (table - table.mean(1, keepdim=True)) / (table.std() + 1e-4)
    assert values(*groups, scale="batch") == pytest.approx(grpo.flatten().tolist(), rel=1e-6, abs=1e-6)
    # RLOOTrainer with normalize_advantages=True.
    rloo = table - (table.sum(1, keepdim=True) - table) / 3
    rloo = (rloo - rloo.mean()) / (rloo.std() + 1e-4)
    ours = values(*groups, scale="advantages", advantage="rloo")
    assert ours == pytest.approx(rloo.flatten().tolist(), rel=1e-6, abs=1e-6)


def test_each_tag_has_a_deviation_of_its_own() -> None:
    tags = {"P1": "seer", "P2": "witch"}
    # The seer as above; the witch got ten times that.
    groups = [
        group_of(
            str(i), *(make_episode(repeat, {"P1": r, "P2": 10 * r}, tags=tags) for repeat, r in enumerate(rewards))
        )
        for i, rewards in enumerate([(0.0, 1.0), (1.0, 1.0)])
    ]
    [first, _] = credited(*groups, scale="batch")
    assert first.of_agents[1, "P1"] == pytest.approx(0.5 / (0.5 + 1e-4))
    assert first.of_agents[1, "P2"] == pytest.approx(5.0 / (5.0 + 1e-4))
    assert first.of_tags["witch"] == {(i, "P2"): [first.of_agents[i, "P2"]] for i in (0, 1)}


def test_an_episode_counts_once_however_many_agents_and_turns_it_has() -> None:
    tags = {"P1": "wolf", "P2": "wolf"}
    # Two wolves with one reward are as one, and turns that all got the episode's reward as the episode.
    pair = [
        group_of(str(i), *(make_episode(n, {"P1": r, "P2": r}, tags=tags) for n, r in enumerate(rewards)))
        for i, rewards in enumerate([(0.0, 1.0), (1.0, 1.0)])
    ]
    for scale in ("batch", "advantages"):
        once = values(SPLIT, WON, scale=scale)
        assert [credited(*pair, scale=scale)[0].of_agents[i, "P2"] for i in range(2)] == pytest.approx(once[:2])
        talkative = [
            replace(episode, calls=tuple(make_call((1,), (2,), index=k) for k in range(num)))
            for episode, num in zip((*SPLIT.episodes, *WON.episodes), (3, 3, 1, 1), strict=True)
        ]
        groups = [group_of("a", *talkative[:2]), group_of("b", *talkative[2:])]
        [first, _] = credited(*groups, scale=scale, credit="per_turn")
        assert [first.of_calls[1, k] for k in range(3)] == pytest.approx([once[1]] * 3)


def test_calls_and_tokens_are_divided_with_their_agent() -> None:
    call = make_call((1,), (2, 3))
    groups = [
        group_of(name, *(replace(episode, calls=(call,)) for episode in group.episodes))
        for name, group in (("a", SPLIT), ("b", WON))
    ]
    [first, second] = credited(*groups, scale="batch")
    expected = first.of_agents[1, "P1"]
    assert first.of_calls[1, 0] == expected and first.of_tokens[1][0] == (expected, expected)
    assert second.of_tokens[0][0] == (0.0, 0.0) and second.num_zero_std == {"seer": 1}


def test_a_group_of_one_episode_is_no_part_of_the_deviation() -> None:
    assert values(SPLIT, WON, make_group(7), scale="batch") == [*values(SPLIT, WON, scale="batch"), 0.0]


def test_a_penalty_alone_acts_as_its_share_of_a_lost_game() -> None:
    malformed = make_call((1,), (2,), format_error="no JSON")
    won = [make_episode(i, {"P1": 1.0}, *calls) for i, calls in enumerate(((malformed,), ()))]
    lost = [make_episode(i, {"P1": float(i)}) for i in range(2)]
    for scale in ("batch", "advantages"):
        priced = values(EpisodeGroup(task=TASK, episodes=tuple(won)), scale=scale, format_penalty=0.01)
        game = values(EpisodeGroup(task=TASK, episodes=tuple(lost)), scale=scale)
        assert priced == pytest.approx([0.01 * value for value in game], rel=0.02)


def test_a_penalty_alone_is_its_share_though_another_task_was_lost() -> None:
    malformed = make_call((1,), (2,), format_error="no JSON")
    won = group_of("won", *(make_episode(i, {"P1": 1.0}, *calls) for i, calls in enumerate(((malformed,), ()))))
    lost, split = group_of("lost", *make_group(0, 0).episodes), group_of("split", *make_group(0, 1).episodes)
    [priced, flat] = credited(won, lost, scale="advantages", format_penalty=0.01)
    [game, _] = credited(split, lost, scale="advantages")
    assert priced.of_agents == pytest.approx({key: 0.01 * value for key, value in game.of_agents.items()}, rel=0.02)
    assert set(flat.of_agents.values()) == {0.0}
    # Beside a game that was lost it is what it takes from a reward.
    [_, beside] = credited(split, won, scale="advantages", format_penalty=0.01)
    assert beside.of_agents[1, "P1"] == pytest.approx(0.01 * game.of_agents[1, "P1"], rel=0.02)


@pytest.mark.parametrize("credit", ["critic", "agent_turn"])
def test_a_penalty_shrinks_nothing_where_more_differs_between_calls_than_it(credit: str) -> None:
    # All were won: before each critic's call something else was expected, turns were given rewards that sum alike.
    def turns(rewards: tuple[float, ...], format_error: str | None) -> list[Call]:
        calls = [make_call((1,), (2,), index=k) for k in range(len(rewards))]
        given = [replace(call, reward=reward) for call, reward in zip(calls, rewards, strict=True)]
        return [replace(given[0], format_error=format_error), *given[1:]]

    def found(format_error: str | None) -> dict[tuple[int, int], float]:
        episodes = [
            make_episode(0, {"P1": 1.0}, *turns((0.0, 1.0), format_error)),
            make_episode(1, {"P1": 1.0}, *turns((1.0, 0.0), None)),
        ]
        [result] = credited(
            group_of("t", *episodes),
            scale="advantages",
            advantage="dr_grpo",
            credit=credit,
            call_values={("t", 0, 0): 0.2, ("t", 0, 1): 0.9, ("t", 1, 0): 0.5, ("t", 1, 1): 0.7},
            format_penalty=0.01,
        )
        return result.of_calls

    assert found("no JSON") == pytest.approx(found(None), abs=0.05)
    assert max(map(abs, found(None).values())) > 0.7


@pytest.mark.parametrize("scale", ["batch", "advantages"])
def test_tags_that_are_compared_with_each_other_have_one_deviation(scale: str) -> None:
    # The seer always wins: half a win above the task's baseline, and without a spread of its own.
    tags = {"P1": "seer", "P2": "wolf"}
    group = group_of("t", *(make_episode(i, {"P1": 1.0, "P2": 0.0}, tags=tags) for i in range(4)))
    [found] = credited(group, scale=scale, credit="per_task")
    # Eight values, each .5 from their mean.
    by = math.sqrt(8 * 0.25 / 7) + 1e-4
    assert found.of_agents[0, "P1"] == -found.of_agents[0, "P2"] == pytest.approx(0.5 / by)
    # A team's episodes are so many plain values, however many tags share in them.
    team = [group_of("t", *(make_episode(i, {"P1": float(i), "P2": float(i)}, tags=tags) for i in range(2)))]
    [shared] = credited(*team, scale=scale, credit="shared")
    assert shared.of_agents[1, "P1"] == pytest.approx(0.5 / (math.sqrt(0.5) + 1e-4))


@pytest.mark.parametrize("scale", ["batch", "advantages"])
def test_huge_rewards_have_a_deviation_too(scale: str) -> None:
    assert values(make_group(0, 1e200), scale=scale) == pytest.approx([-math.sqrt(0.5), math.sqrt(0.5)])


def test_the_preset_is_reinforce_pp_with_baseline() -> None:
    found = compose(
        ["workflow=signals", "trainable_targets=[speaker]", "algorithm=reinforce_pp"], run_dir="x"
    ).algorithm
    chosen = (found.loss, found.aggregation, found.advantage, found.scale_rewards)
    assert chosen == ("clip", "dapo", "dr_grpo", "advantages")


@pytest.mark.parametrize("advantage", ["dr_grpo", "rloo"])
def test_an_advantage_without_a_division_is_not_told_to_divide(advantage: str) -> None:
    with pytest.raises(ConfigError, match=r"scale_rewards=group .* advantage=grpo"):
        check_algorithm(AlgorithmConfig(advantage=advantage, scale_rewards="group"))
    for scale in (None, "none", "batch", "advantages"):
        check_algorithm(AlgorithmConfig(advantage=advantage, scale_rewards=scale))


@pytest.mark.parametrize("scale", ["batch", "advantages"])
def test_a_running_baseline_is_not_divided_by_a_steps_deviation(scale: str) -> None:
    command: Sequence[str] = ["workflow=signals", "trainable_targets=[speaker]", "credit=rae"]
    with pytest.raises(ConfigError, match=rf"scale_rewards={scale} .* credit=rae"):
        compose([*command, f"algorithm.scale_rewards={scale}"], run_dir="x")
