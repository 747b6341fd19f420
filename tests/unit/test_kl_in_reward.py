"""The distance to the reference as a cost to the reward: by call, without touching what is reported."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, cast

import pytest
import torch
from tests.factories import TASK, make_call, make_episode, make_sample, tiny_qwen
from tests.unit.test_policy_gradient import RULE, make_policy
from torch import Tensor

from ajet.config.algorithm import AlgorithmConfig
from ajet.config.algorithm_checks import check_algorithm
from ajet.config.options import options
from ajet.config.root import Config
from ajet.errors import ConfigError
from ajet.records import EpisodeGroup
from ajet.train.algorithms.rule import learning_rule
from ajet.train.learner import Learner
from ajet.train.lora import with_lora
from ajet.train.packing import Pack, build_packs
from ajet.train.ranks import ALONE
from ajet.train.reference import CallCosts, kl_costs

LOG_2 = math.log(2)


class Doubting:
    """A learner whose reference gives every sampled token half the probability that it was sampled with, and token 9
    twice."""

    why_chains_only = None

    def reference_logps(self, packs: Sequence[Pack]) -> list[Tensor]:
        return [
            torch.from_numpy(pack.logprobs) + LOG_2 * (2 * torch.from_numpy(pack.targets == 9) - 1) for pack in packs
        ]


def two_episodes() -> EpisodeGroup:
    """In the first the seer speaks twice, its second call going on from the first, in the other once; a witch that is
    not trained speaks between. Both are won."""
    first = make_episode(
        0,
        {"P1": 1.0},
        make_call((1, 2), (3, 4), index=0),
        make_call((1,), (5,), agent="P2", tag="witch", index=1, trained=False),
        make_call((1, 2, 3, 4, 6), (9,), index=2),
    )
    return EpisodeGroup(task=TASK, episodes=(first, make_episode(1, {"P1": 1.0}, make_call((1, 2), (3, 4, 5)))))


def costs_of(group: EpisodeGroup, *, step: int = 0, **settings: Any) -> CallCosts:
    algorithm = dataclasses.replace(AlgorithmConfig(kl_coef=0.5, kl_in="reward"), **settings)
    config = Config(algorithm=algorithm, total_steps=10)
    return kl_costs([group], cast(Learner, Doubting()), ALONE, config, step=step, reply_masks=None)


def test_a_call_costs_the_log_ratio_of_its_own_tokens() -> None:
    costs = costs_of(two_episodes())
    # Two tokens less likely to the reference, one likelier, three less likely.
    expected = {("t", 0, 0): LOG_2, ("t", 0, 2): -LOG_2 / 2, ("t", 1, 0): 1.5 * LOG_2}
    assert dict(costs.of_calls) == pytest.approx(expected)
    assert costs.metrics["reward/seer/kl_cost_mean"] == pytest.approx((0.5 * LOG_2 + 1.5 * LOG_2) / 2)
    # k3 of five tokens with d = log 2 and one with -log 2.
    assert costs.metrics["policy/seer/kl_ref"] == pytest.approx((5 * (LOG_2 - 0.5) + 1 - LOG_2) / 6)
    assert set(costs.metrics) == {"reward/seer/kl_cost_mean", "policy/seer/kl_ref"}


def test_the_cost_falls_with_the_penaltys_schedule_and_is_the_same_however_rows_are_packed() -> None:
    whole, half = costs_of(two_episodes()), costs_of(two_episodes(), step=5, kl_schedule="linear")
    assert dict(half.of_calls) == pytest.approx({key: cost / 2 for key, cost in whole.of_calls.items()})
    assert costs_of(two_episodes(), max_pack_tokens=1) == whole


def advantages(credit: str, **settings: Any) -> dict[tuple[int, int], float]:
    """By (repeat, call), with costs of .5 a nat."""
    group = two_episodes()
    rule = learning_rule(AlgorithmConfig(advantage="dr_grpo"), options("credit")[credit](**settings))
    (found,) = rule.step_advantages([group], call_costs=costs_of(group).of_calls)
    return found.of_calls


def test_credit_by_agent_adds_up_what_an_agent_said_and_credit_by_turn_gives_each_its_own() -> None:
    # Costs of .5 and 1.5 log 2: the mean is log 2.
    half = LOG_2 / 2
    assert advantages("per_tag") == pytest.approx({(0, 0): half, (0, 2): half, (1, 0): -half})
    # First turns cost 1 and 1.5 log 2; the second turn is alone.
    assert advantages("per_turn") == pytest.approx({(0, 0): half / 2, (0, 2): 0, (1, 0): -half / 2})


def test_where_all_rewards_are_the_same_grpo_does_not_blow_up_a_small_cost() -> None:
    group = two_episodes()
    costs = costs_of(group, kl_coef=0.01).of_calls
    (found,) = learning_rule(AlgorithmConfig()).step_advantages([group], call_costs=costs)
    # Totals are .02 log 2 apart, and so are their advantages of what a reward that is 1 lower would give: 2 / sqrt(2).
    apart = found.of_agents[0, "P1"] - found.of_agents[1, "P1"]
    assert apart == pytest.approx(0.02 * LOG_2 * math.sqrt(2), rel=0.05)


@pytest.mark.parametrize("has_adapters", [False, True])
def test_a_policy_tells_what_its_reference_says_of_packs(has_adapters: bool) -> None:
    rows = [make_sample((1, 2, 3, 4), (0, 1, 1, 1)), make_sample((1, 2, 5), (0, 0, 1), repeat=1)]
    packs = build_packs(rows, [1.0, 1.0], ("seer",), max_tokens=100)
    model, starting = tiny_qwen(seed=1), tiny_qwen(seed=2)
    if has_adapters:
        model, starting = with_lora(tiny_qwen(seed=2), rank=2, alpha=4.0, targets=["q_proj"]), tiny_qwen(seed=2)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.5)
    expected = [make_policy(starting).forward(pack).logp_E.detach() for pack in packs]
    algorithm = dataclasses.replace(RULE, kl_coef=1.0, kl_in="reward")
    policy = make_policy(model, algorithm=algorithm, reference=None if has_adapters else tiny_qwen(seed=2))
    for found, wanted in zip(policy.reference_logps(packs), expected, strict=True):
        assert not found.requires_grad
        torch.testing.assert_close(found, wanted)
    # The loss has none of it: what has no advantage has no gradient.
    flat = [dataclasses.replace(pack, advantages=0 * pack.advantages) for pack in packs]
    assert policy.train_batch([flat], ("seer",), num_steps_done=0)["policy/grad_norm"] == 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kl_in": "reward"}, r"algorithm\.kl_in=reward has no effect with algorithm\.kl_coef=0"),
        ({"kl_in": "reward", "kl_coef": 0.1, "kl_estimator": "k3"}, r"kl_estimator=k3 is for the loss"),
        ({"kl_in": "reward", "kl_coef": 0.1, "kl_bias_correction": True}, r"kl_bias_correction=true has no effect"),
    ],
)  # fmt: skip
def test_what_is_of_the_loss_is_refused_in_the_reward(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_algorithm(AlgorithmConfig(**settings))
