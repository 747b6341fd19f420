"""Replies that are too long: what is left out of the loss, and what they cost."""

from __future__ import annotations

import pytest
from tests.factories import TASK, make_call, make_episode
from trl.rewards import get_soft_overlong_punishment

from ajet.config.algorithm import AlgorithmConfig
from ajet.config.algorithm_checks import check_algorithm
from ajet.config.compose import compose
from ajet.config.hardware import PackCosts
from ajet.errors import ConfigError
from ajet.records import Episode, EpisodeGroup
from ajet.tracking.metrics import episode_metrics
from ajet.train.algorithms.credit.base import ReplyPrices
from ajet.train.algorithms.rule import learning_rule
from ajet.train.batch import TrainingBatch, build_batch
from ajet.train.clock import PhaseClock
from ajet.train.timeline import build_samples


def batch_of(*episodes: Episode, **settings: object) -> TrainingBatch:
    rule = learning_rule(AlgorithmConfig(advantage="dr_grpo", **settings))  # type: ignore[arg-type]
    group = EpisodeGroup(task=TASK, episodes=episodes)
    return build_batch([group], rule, PhaseClock(), branching_packs=True, costs=PackCosts())


def entries(batch: TrainingBatch) -> dict[int, tuple[float, float]]:
    """(weight, advantage) by sampled id."""
    return {
        int(target): (float(weight), float(advantage))
        for packs in batch.minibatches
        for pack in packs
        for target, weight, advantage in zip(pack.targets, pack.weights, pack.advantages, strict=True)
    }


CUT = make_call((1,), (2, 3, 4), finish_reason="length")
WHOLE = make_call((1,), (5, 6))
EPISODES = (make_episode(0, {"P1": 0.0}, CUT), make_episode(1, {"P1": 1.0}, WHOLE))


def test_a_reply_that_was_cut_is_left_out_and_its_reward_counts_all_the_same() -> None:
    # Two sequences: each of the two tokens left is half of one of them, and the baseline is 1/2.
    assert entries(batch_of(*EPISODES, mask_truncated=True)) == {5: (0.25, 0.5), 6: (0.25, 0.5)}
    assert sorted(entries(batch_of(*EPISODES))) == [2, 3, 4, 5, 6]


def test_in_a_mean_over_tokens_those_of_a_cut_reply_do_not_count() -> None:
    masked = entries(batch_of(*EPISODES, mask_truncated=True, aggregation="dapo"))
    assert [weight for weight, _ in masked.values()] == [0.5, 0.5]


def test_a_penalty_does_not_hold_a_reply_that_is_left_out() -> None:
    assert sorted(entries(batch_of(*EPISODES, mask_truncated=True, kl_coef=0.1))) == [5, 6]


def test_a_step_of_cut_replies_alone_teaches_nothing() -> None:
    cut = [make_episode(i, {"P1": float(i)}, CUT) for i in range(2)]
    for aggregation in ("grpo", "dapo"):
        assert batch_of(*cut, mask_truncated=True, aggregation=aggregation).minibatches == [[]]


def test_later_calls_see_a_cut_reply_as_context() -> None:
    later = make_call((1, 2, 3, 4, 9), (7,), index=1)
    [row] = build_samples(make_episode(0, {"P1": 1.0}, CUT, later), {0: (1.0,) * 3, 1: (1.0,)}, mask_truncated=True)
    assert row.token_ids == (1, 2, 3, 4, 9, 7) and row.loss_mask == (False,) * 5 + (True,) and row.calls[-1] == 1


def test_the_share_of_replies_that_were_cut_is_measured_by_tag() -> None:
    assert episode_metrics([EpisodeGroup(task=TASK, episodes=EPISODES)])["format/seer/truncated_rate"] == 0.5


@pytest.mark.parametrize("num_tokens", [1, 80, 81, 90, 99, 100])
def test_an_overlong_reply_costs_what_it_does_in_trl(num_tokens: int) -> None:
    prices = ReplyPrices(overlong=1.0, buffer=20, max_tokens=100)
    [punishment] = get_soft_overlong_punishment(100, 20)([[1] * num_tokens])
    assert prices.of(make_call((1,), (2,) * num_tokens)) == pytest.approx(-punishment)


def test_each_overlong_reply_costs_its_agent_and_no_reward_that_is_measured() -> None:
    # Limit 4, buffer 2: three tokens cost half of .4, four all of it.
    calls = [make_call((1,), (2,) * num, index=i) for i, num in enumerate((3, 4, 2))]
    episodes = (make_episode(0, {"P1": 1.0}, *calls), make_episode(1, {"P1": 1.0}, WHOLE))
    rule = learning_rule(AlgorithmConfig(advantage="dr_grpo", overlong_penalty=0.4, overlong_buffer=2), max_tokens=4)
    advantages = rule.group_advantages(EpisodeGroup(task=TASK, episodes=episodes)).of_agents
    assert advantages == pytest.approx({(0, "P1"): -0.3, (1, "P1"): 0.3})
    assert episodes[0].rewards == {"P1": 1.0}


def test_a_cut_reply_that_is_left_out_has_its_price_all_the_same() -> None:
    # The cut reply has as many tokens as there may be: .4 less than 0, so that the baseline is .3.
    algorithm = AlgorithmConfig(advantage="dr_grpo", mask_truncated=True, overlong_penalty=0.4, overlong_buffer=1)
    rule, group = learning_rule(algorithm, max_tokens=3), EpisodeGroup(task=TASK, episodes=EPISODES)
    batch = build_batch([group], rule, PhaseClock(), branching_packs=True, costs=PackCosts())
    assert entries(batch) == {5: pytest.approx((0.25, 0.7)), 6: pytest.approx((0.25, 0.7))}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"overlong_penalty": 1.0}, r"overlong_penalty=1\.0 needs algorithm\.overlong_buffer"),
        ({"overlong_buffer": 8}, r"overlong_buffer=8 has no effect with algorithm\.overlong_penalty=0"),
    ],
)
def test_half_of_a_price_is_refused(settings: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_algorithm(AlgorithmConfig(**settings))  # type: ignore[arg-type]


def test_a_buffer_longer_than_any_reply_is_refused() -> None:
    command = ["workflow=signals", "rollout.max_tokens=16", "algorithm.overlong_penalty=1"]
    with pytest.raises(ConfigError, match=r"overlong_buffer=17 .*rollout\.max_tokens=16"):
        compose([*command, "algorithm.overlong_buffer=17"], run_dir="x")
    compose([*command, "algorithm.overlong_buffer=16"], run_dir="x")
