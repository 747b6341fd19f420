"""A bonus on entropy that a role gets while it is too sure; whose numbers are those of TRL, see test_losses_of_trl."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
from tests.factories import make_sample, tiny_qwen
from tests.unit.test_policy_gradient import RULE, TAGS, make_policy

from ajet.config.algorithm import AlgorithmConfig
from ajet.config.algorithm_checks import check_algorithm
from ajet.errors import ConfigError
from ajet.train.algorithms.adaptive_entropy import EntropyBonus
from ajet.train.algorithms.objective import is_plain
from ajet.train.packing import build_packs

ADAPTIVE = AlgorithmConfig(entropy_target=1.0, entropy_coef=0.1, entropy_coef_delta=0.25)


def test_each_role_has_a_coefficient_of_its_own_and_one_that_says_nothing_keeps_it() -> None:
    bonus = EntropyBonus(ADAPTIVE)
    assert bonus.coefficients(TAGS) == [0, 0], "nothing was measured yet"
    bonus.measured({"seer": 0.9, "witch": 1.1})
    assert bonus.coefficients(TAGS) == [0.35, 0]
    bonus.measured({"witch": 1.0})
    assert bonus.coefficients(TAGS) == [0.35, 0.25], "the witch's had fallen to 0"
    assert EntropyBonus(AlgorithmConfig(entropy_coef=0.1)).coefficients(TAGS) == [0.1, 0.1]


def test_the_bonus_is_learned_from_as_soon_as_the_entropy_was_too_low_and_a_resumed_run_has_it() -> None:
    packs = build_packs([make_sample((1, 2, 3), (0, 1, 1), advantage=0.0)], [1.0], TAGS, max_tokens=9)
    # A model of 300 words that has learned nothing has some 5.7 nats.
    algorithm = dataclasses.replace(RULE, entropy_target=20.0)
    policy, resumed = (make_policy(tiny_qwen(seed=1), algorithm=algorithm) for _ in range(2))
    told = [policy.train_batch([packs, packs], TAGS, num_steps_done=0)]
    resumed.load_state_dict(copy.deepcopy(policy.state_dict()))
    both = [each.train_batch([packs, packs], TAGS, num_steps_done=1) for each in (policy, resumed)]
    assert both[0] == both[1]
    told.append(both[0])
    assert [line["policy/seer/entropy_coef"] for line in told] == pytest.approx([0.01, 0.02])
    # Two tokens; of the first two steps one has no bonus.
    first, second = (line["policy/loss"] / -line["policy/seer/entropy"] for line in told)
    assert [first, second] == pytest.approx([0.005 * 2, (0.01 + 0.015) * 2], rel=0.05)
    above = make_policy(tiny_qwen(seed=1), algorithm=dataclasses.replace(RULE, entropy_target=0.1))
    metrics = [above.train_batch([packs], TAGS, num_steps_done=step) for step in (0, 1)]
    assert [line["policy/grad_norm"] for line in metrics] == [0, 0]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"entropy_coef_max": 0.5}, r"entropy_coef_max=0\.5 has no effect with algorithm\.entropy_target=null"),
        ({"entropy_target": 1.0, "entropy_coef": 2.0}, r"entropy_coef=2.* is above algorithm\.entropy_coef_max=1"),
    ],
)  # fmt: skip
def test_settings_without_a_target_or_above_the_bound_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_algorithm(AlgorithmConfig(**settings))
    assert not is_plain(AlgorithmConfig(entropy_target=1.0))
