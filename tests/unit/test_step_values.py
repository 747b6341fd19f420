"""What a step's advantages are in all: how large, and how far apart, each episode counting once."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from tests.factories import TASK, make_call, make_episode

from ajet.config.algorithm import AlgorithmConfig
from ajet.config.hardware import PackCosts
from ajet.config.options import option
from ajet.records import Call, EpisodeGroup
from ajet.train.algorithms.rule import learning_rule
from ajet.train.algorithms.spread import StepValues
from ajet.train.batch import build_batch
from ajet.train.clock import PhaseClock


def values_of(*cells: dict[str, list[float]]) -> StepValues:
    values = StepValues()
    for number, agents in enumerate(cells):
        for agent, of_calls in agents.items():
            values.add(number, agent, of_calls)
    return values


def test_an_episode_weighs_as_much_as_another_and_in_it_an_agent() -> None:
    # Weights 1/8, 1/8, 1/4, 1/2.
    values = values_of({"P1": [1.0, -1.0], "P2": [2.0]}, {"P1": [3.0]})
    assert values.mean() == 2.0 and values.abs_mean() == 2.25
    # Squares of distances 1, 9, 0, 1: 1/8 + 9/8 + 0 + 1/2.
    assert values.std(of_sample=False) == pytest.approx(math.sqrt(1.75))
    assert values.std(of_sample=True) == pytest.approx(math.sqrt(1.75 * 2 / 1))


def test_values_may_be_huge_equal_or_not_finite() -> None:
    assert values_of({"P1": [1e300]}, {"P1": [-1e300]}).std(of_sample=False) == 1e300
    assert values_of({"P1": [0.0]}, {"P1": [0.0]}).std(of_sample=True) == 0.0
    for odd in (math.inf, math.nan):
        values = values_of({"P1": [odd]}, {"P1": [-odd]})
        assert not any(map(math.isfinite, (values.mean(), values.abs_mean(), values.std(of_sample=True))))


def metrics_of(group: EpisodeGroup, credit: str, scale: str | None = None) -> dict[str, float]:
    rule = learning_rule(AlgorithmConfig(advantage="dr_grpo", scale_rewards=scale), option("credit", credit)())
    batch = build_batch([group], rule, PhaseClock(), branching_packs=True, costs=PackCosts())
    return {name.rpartition("/")[2]: value for name, value in batch.metrics.items() if name.startswith("advantage/")}


def turns(*rewards: float) -> list[Call]:
    return [replace(make_call((1,), (k + 2,), index=k), reward=reward) for k, reward in enumerate(rewards)]


def test_what_turns_teach_is_told_though_an_agents_turns_cancel_out() -> None:
    group = EpisodeGroup(
        task=TASK,
        episodes=(
            make_episode(0, {"P1": 1.0}, *turns(0.0, 1.0)),
            make_episode(1, {"P1": 1.0}, *turns(1.0, 0.0)),
        ),
    )
    assert metrics_of(group, "agent_turn") == {"abs_mean": 0.5, "std": 0.5}
    by = math.sqrt(0.5) + 1e-4  # 1/4 times 2 / 1 for two episodes
    scaled = metrics_of(group, "agent_turn", scale="advantages")
    assert scaled == pytest.approx({"abs_mean": 0.5 / by, "std": 0.5 / by})


def test_a_rule_by_agent_is_told_by_agents_however_many_calls_they_made() -> None:
    # 4 less their mean, 1, is 3; -1 for the others.
    calls: tuple[list[Call], ...] = (turns(0.0, 0.0, 0.0), turns(0.0), [], turns(0.0))
    group = EpisodeGroup(
        task=TASK, episodes=tuple(make_episode(n, {"P1": 4.0 * (n == 0)}, *calls[n]) for n in range(4))
    )
    assert metrics_of(group, "per_tag") == pytest.approx({"abs_mean": 1.5, "std": math.sqrt(3.0)})
