"""Credit by a value head: GAE over an agent's calls, the values' own loss, and the same in packs as in plain rows."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.factories import TASK, make_call, make_episode, make_sample, samples_strategy, tiny_qwen
from tests.unit.test_policy_gradient import RULE, TAGS, make_policy, relative_error

from ajet.config.algorithm import AlgorithmConfig
from ajet.config.compose import compose
from ajet.config.hardware import PackCosts
from ajet.config.root import Config
from ajet.errors import ConfigError
from ajet.records import CallKey, EpisodeGroup, TrainingSample
from ajet.train.algorithms.credit.critic import CriticConfig, generalized_advantages
from ajet.train.algorithms.rule import learning_rule
from ajet.train.algorithms.weights import BatchTotals, batch_totals, call_weights
from ajet.train.batch import build_batch
from ajet.train.call_values import call_values, value_metrics, with_targets
from ajet.train.clock import PhaseClock
from ajet.train.lora import with_lora
from ajet.train.packing import Pack, build_packs
from ajet.train.policy import TrainablePolicy
from ajet.train.ranks import ALONE
from ajet.train.value_head import ValueHead, value_loss

CRITIC = CriticConfig(gae_lambda=1.0)


def test_an_advantage_is_what_came_less_what_was_expected() -> None:
    rewards, values = (0.0, 1.0), (0.5, 0.75)
    assert generalized_advantages(rewards, values, discount=1.0, gae_lambda=1.0) == [0.5, 0.25]
    # Compared with the value behind it alone: 0 + .75 - .5, and 1 - .75.
    assert generalized_advantages(rewards, values, discount=1.0, gae_lambda=0.0) == [0.25, 0.25]
    # Half each: 0 + .375 - .5, plus a quarter of what comes behind.
    assert generalized_advantages(rewards, values, discount=0.5, gae_lambda=0.5) == [-0.0625, 0.25]
    assert generalized_advantages((), (), discount=1.0, gae_lambda=1.0) == []


NUMBERS = st.floats(-10, 10, allow_subnormal=False)
STEPS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=6)
SHARES = st.floats(0, 1, allow_subnormal=False)


@given(STEPS, SHARES, SHARES)
def test_it_is_the_papers_sum_and_with_lambda_1_target_and_return_are_one(
    steps: list[tuple[float, float]], discount: float, gae_lambda: float
) -> None:
    rewards, values = zip(*steps, strict=True)
    after = (*values[1:], 0.0)
    deltas = [r + discount * later - v for r, v, later in zip(rewards, values, after, strict=True)]
    found = generalized_advantages(rewards, values, discount=discount, gae_lambda=gae_lambda)
    for k, advantage in enumerate(found):
        expected = sum((discount * gae_lambda) ** (j - k) * deltas[j] for j in range(k, len(deltas)))
        assert advantage == pytest.approx(expected, abs=1e-9)
    whole = generalized_advantages(rewards, values, discount=discount, gae_lambda=1.0)
    for k, advantage in enumerate(whole):
        to_come = sum(discount ** (j - k) * rewards[j] for j in range(k, len(rewards)))
        assert advantage + values[k] == pytest.approx(to_come, abs=1e-9)
    plain = generalized_advantages(rewards, [0.0] * len(rewards), discount=1.0, gae_lambda=1.0)
    assert plain[0] == pytest.approx(sum(rewards), abs=1e-9)


def two_games() -> EpisodeGroup:
    """A seer that speaks twice and gets 1, of it .25 for its first reply; one that speaks once and gets nothing."""
    first, second = make_call((1, 2), (3,)), make_call((1, 2, 3, 4), (5, 6), index=1)
    won = make_episode(0, {"P1": 1.0}, replace(first, reward=0.25), second)
    return EpisodeGroup(task=TASK, episodes=(won, make_episode(1, {"P1": 0.0}, make_call((1, 2), (4,)))))


VALUES: dict[CallKey, float] = {("t", 0, 0): 0.5, ("t", 0, 1): 0.75, ("t", 1, 0): 0.5}


def credited(scale: str, *groups: EpisodeGroup, values: dict[CallKey, float]) -> list[dict[tuple[int, int], float]]:
    rule = learning_rule(AlgorithmConfig(advantage="dr_grpo", scale_rewards=scale, format_penalty=0.5), CRITIC)
    return [found.of_calls for found in rule.step_advantages(groups or [two_games()], call_values=values)]


def test_calls_are_credited_with_their_advantages_and_values_learn_what_came() -> None:
    # 1 in all was 1 - .5 more than was expected, and from the second call on .75 - .75.
    assert credited("none", values=VALUES) == [{(0, 0): 0.5, (0, 1): 0.0, (1, 0): -0.5}]
    assert credited("none", values={}) == [{(0, 0): 1.0, (0, 1): 0.75, (1, 0): 0.0}]
    rule = learning_rule(AlgorithmConfig(advantage="dr_grpo"), CRITIC)
    targets = rule.value_targets([two_games()], call_costs={("t", 0, 1): 0.25}, call_values=VALUES)
    assert targets == {("t", 0, 0): 0.75, ("t", 0, 1): 0.5, ("t", 1, 0): 0.0}
    # With lambda 0 the first call's is its own reward and the value behind it.
    rule = learning_rule(AlgorithmConfig(advantage="dr_grpo"), CriticConfig(gae_lambda=0.0))
    targets = rule.value_targets([two_games()], call_costs={}, call_values=VALUES)
    assert targets == {("t", 0, 0): 1.0, ("t", 0, 1): 0.75, ("t", 1, 0): 0.0}


def test_a_malformed_reply_costs_its_call_and_those_before_it() -> None:
    group = two_games()
    first, second = group.episodes[0].calls
    spoilt = replace(group.episodes[0], calls=(first, replace(second, format_error="no JSON")))
    (found,) = credited("none", replace(group, episodes=(spoilt, group.episodes[1])), values=VALUES)
    assert found == {(0, 0): 0.0, (0, 1): -0.5, (1, 0): -0.5}


def test_what_a_call_without_tokens_was_given_is_the_call_befores() -> None:
    group = two_games()
    silent = replace(make_call((1, 2), (), index=2), reward=0.5)
    longer = replace(group.episodes[0], calls=(*group.episodes[0].calls, silent))
    # Of the reward of 1 now .25 is the episode's; what comes from the second call on is .75 as before.
    (found,) = credited("none", replace(group, episodes=(longer, group.episodes[1])), values=VALUES)
    assert found == {(0, 0): 0.5, (0, 1): 0.0, (0, 2): 0.0, (1, 0): -0.5}


def test_what_a_call_without_tokens_was_given_before_the_first_with_some_is_that_ones() -> None:
    first, second = two_games().episodes[0].calls
    silent = replace(make_call((1, 2), ()), reward=0.5)
    # Of the reward of 1 .5 + .25 are the first step's, and the episode's .25 the second's.
    calls = (silent, replace(first, index=1), replace(second, index=2))
    group = EpisodeGroup(task=TASK, episodes=(make_episode(0, {"P1": 1.0}, *calls), two_games().episodes[1]))
    assert credited("none", group, values={}) == [{(0, 0): 0.0, (0, 1): 1.0, (0, 2): 0.25, (1, 0): 0.0}]
    # An agent without any step has none to credit.
    mute = EpisodeGroup(task=TASK, episodes=(make_episode(0, {"P1": 1.0}, silent), two_games().episodes[1]))
    assert credited("none", mute, values={}) == [{(0, 0): 0.0, (1, 0): 0.0}]


def test_scaled_advantages_have_no_mean_so_that_a_head_that_lags_behind_moves_nothing() -> None:
    # By episode: (.5 + 0) / 2 and -.5, mean -.125; squares (.390625 + .015625) / 2 and .140625.
    spread = math.sqrt((0.203125 + 0.140625) / 2 * 2) + 1e-4
    (found,) = credited("advantages", values=VALUES)
    assert found == pytest.approx({(0, 0): 0.625 / spread, (0, 1): 0.125 / spread, (1, 0): -0.375 / spread})
    both_won = EpisodeGroup(
        task=TASK, episodes=tuple(make_episode(n, {"P1": 1.0}, make_call((1, 2), (3,))) for n in (0, 1))
    )
    assert credited("none", both_won, values={}) == [{(0, 0): 1.0, (1, 0): 1.0}]
    assert credited("advantages", both_won, values={}) == [{(0, 0): 0.0, (1, 0): 0.0}]
    # A call that is not a step is no part of the spread.
    won, lost = two_games().episodes
    silent = make_call((1, 2), (), index=2)
    (with_silent,) = credited(
        "advantages", EpisodeGroup(task=TASK, episodes=(replace(won, calls=(*won.calls, silent)), lost)), values=VALUES
    )
    assert with_silent == found | {(0, 2): 0.0}
    # What is compared with nothing stays 0 beside others that are.
    alone = EpisodeGroup(task=replace(TASK, task_id="u"), episodes=both_won.episodes[:1])
    assert credited("advantages", two_games(), alone, values=VALUES)[1] == {(0, 0): 0.0}


def distinct(rows: Sequence[TrainingSample]) -> list[TrainingSample]:
    """The rows with calls that no other has."""
    return [
        replace(row, calls=tuple(100 * n + call if call >= 0 else call for call in row.calls))
        for n, row in enumerate(rows)
    ]


@given(samples_strategy().map(distinct), st.integers(1, 3))
def test_how_many_calls_a_sequence_has_changes_nothing_of_its_weight(rows: list[TrainingSample], more: int) -> None:
    talkative = [
        replace(row, calls=tuple(call + 10_000 * n if call >= 0 else call for call in row.calls))
        for row in rows
        for n in range(more)
    ]
    for samples in (rows, talkative):
        totals = batch_totals(samples)
        weights = call_weights(samples, totals)
        sequences: dict[tuple[str, int, str], set[CallKey]] = {}
        for row in samples:
            keys = {(*row.episode_key, call) for call in row.calls if call >= 0}
            sequences.setdefault((*row.episode_key, row.target_tag), set()).update(keys)
        for keys in sequences.values():
            assert sum(weights[key] for key in keys) == pytest.approx(1 / totals.num_sequences)


def test_agents_of_a_tag_share_their_sequence_however_much_each_says() -> None:
    rows = [
        make_sample((1, 2, 3, 4, 5), (0, 1, 0, 1, 0), calls=(-1, 0, -1, 2, -1)),
        make_sample((1, 2), (0, 1), agent="P2", calls=(-1, 1)),
        make_sample((1, 2), (0, 1), repeat=1),
    ]
    weights = call_weights(rows, BatchTotals(num_sequences=4, num_tokens=9))  # two were cut and left out
    assert weights == {("t", 0, 0): 1 / 16, ("t", 0, 2): 1 / 16, ("t", 0, 1): 1 / 8, ("t", 1, 0): 1 / 4}


def packs_of(
    rows: Sequence[TrainingSample], *, max_tokens: int = 1000, branches: bool = True, most: float = 1.0
) -> list[Pack]:
    """With a target of `most` less a hundredth of the call's number."""
    packs = build_packs(
        rows, [0.0] * len(rows), TAGS, max_tokens=max_tokens, branches=branches, costs=PackCosts(pair=0.0)
    )
    weights = call_weights(rows, batch_totals(rows))
    return with_targets(packs, {key: most - key[2] / 100 for key in weights}, weights, coef=0.5)


def random_head() -> ValueHead:
    torch.manual_seed(3)
    head = ValueHead(32, torch.device("cpu"))
    head.add_rows(TAGS)
    with torch.no_grad():
        head.weight.normal_()
        head.bias.normal_()
    return head


def gradients_and_values(model: Any, packs: Sequence[Pack]) -> tuple[dict[str, torch.Tensor], dict[CallKey, float]]:
    """Of the value loss alone."""
    head, policy = random_head(), make_policy(model, credit=CRITIC)
    model.zero_grad()
    values: dict[CallKey, float] = {}
    for pack in packs:
        value_C = head(policy.forward(pack), pack, TAGS)
        values.update(zip(pack.call_keys, value_C.tolist(), strict=True))
        value_loss(value_C, pack).backward()
    named = [*model.named_parameters(), *head.named_parameters(prefix="head")]
    return {name: p.grad.clone() for name, p in named if p.grad is not None}, values


ROWS = distinct(
    [
        make_sample((1, 2, 3, 4, 5, 6), (0, 1, 1, 0, 1, 1), calls=(-1, 0, 0, -1, 1, 1)),
        make_sample((1, 2, 3, 7, 8), (0, 0, 0, 1, 1), repeat=1),
        make_sample((1, 2, 9), (0, 0, 1), repeat=2, tag="witch"),
        make_sample((1, 2, 9), (0, 0, 1), repeat=3),
    ]
)


@settings(deadline=None, max_examples=15)
@given(samples_strategy().map(distinct), st.sampled_from([8, 1000]))
def test_packs_have_the_values_of_plain_rows_and_their_gradient(rows: list[TrainingSample], max_tokens: int) -> None:
    model = tiny_qwen()
    # Far above all values: calls that pull against each other would leave a gradient of rounding alone.
    in_rows, in_packs = (
        packs_of(rows, max_tokens=1, branches=False, most=50),
        packs_of(rows, max_tokens=max_tokens, most=50),
    )
    plain, plain_values = gradients_and_values(model, in_rows)
    packed, packed_values = gradients_and_values(model, in_packs)
    assert packed_values == pytest.approx(plain_values, rel=1e-5, abs=1e-5)
    assert relative_error(packed, plain) < 1e-5


def test_a_value_is_read_where_the_prompt_of_its_call_ends_with_the_row_of_its_tag() -> None:
    model, head = tiny_qwen(), random_head()
    _, values = gradients_and_values(model, packs_of(ROWS))
    with torch.no_grad():
        for key, prompt, tag in [
            (("t", 0, 0), (1,), "seer"),
            (("t", 0, 1), (1, 2, 3, 4), "seer"),
            (("t", 2, 200), (1, 2), "witch"),
            (("t", 3, 300), (1, 2), "seer"),
        ]:
            hidden = model.model(input_ids=torch.tensor([prompt])).last_hidden_state[0, -1]
            row = TAGS.index(tag)
            expected = float(hidden @ head.weight[row] / 32 + head.bias[row])
            assert values[key] == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert values["t", 2, 200] != pytest.approx(values["t", 3, 300])


def test_hidden_states_beside_logits_change_no_log_probability() -> None:
    (pack,) = packs_of(ROWS)
    model = tiny_qwen()
    with_values, without = make_policy(model, credit=CRITIC).forward(pack), make_policy(model).forward(pack)
    torch.testing.assert_close(with_values.logp_E, without.logp_E)
    torch.testing.assert_close(with_values.entropy_E, without.entropy_E)
    assert without.hidden_CH is None


def values_of(policy: TrainablePolicy, packs: Sequence[Pack]) -> dict[CallKey, float]:
    given = zip(packs, policy.call_values(packs, TAGS), strict=True)
    return {key: value for pack, of_pack in given for key, value in zip(pack.call_keys, of_pack.tolist(), strict=True)}


def error_of(policy: TrainablePolicy, packs: Sequence[Pack]) -> float:
    """The largest distance of a value to its target."""
    return max(abs(value - (1 - key[2] / 100)) for key, value in values_of(policy, packs).items())


@pytest.mark.parametrize("has_adapters", [False, True])
def test_values_start_at_0_and_come_to_what_they_are_trained_towards(has_adapters: bool) -> None:
    def start() -> TrainablePolicy:
        model = with_lora(tiny_qwen(), rank=2, alpha=4.0, targets=["q_proj"]) if has_adapters else tiny_qwen()
        algorithm, credit = replace(RULE, learning_rate=1e-3), replace(CRITIC, value_learning_rate=0.1)
        return make_policy(model, algorithm=algorithm, credit=credit)

    policy = start()
    packs = packs_of(ROWS)  # without weights for tokens: the value loss alone
    assert set(values_of(policy, packs).values()) == {0.0}
    assert error_of(policy, packs) == 2.0
    for step in range(80):
        policy.train_batch([packs], TAGS, num_steps_done=step)
    assert error_of(policy, packs) < 0.5


def test_a_resumed_run_has_the_head_and_its_moments() -> None:
    packs, credit = packs_of(ROWS), replace(CRITIC, value_learning_rate=0.1)
    policy, resumed = make_policy(tiny_qwen(), credit=credit), make_policy(tiny_qwen(seed=1), credit=credit)
    policy.train_batch([packs], TAGS, num_steps_done=0)
    resumed.load_state_dict(copy.deepcopy(policy.state_dict()))
    assert values_of(resumed, packs) == values_of(policy, packs) != dict.fromkeys(values_of(policy, packs), 0.0)
    for each in (policy, resumed):
        each.train_batch([packs], TAGS, num_steps_done=1)
    assert values_of(resumed, packs) == values_of(policy, packs)


def test_a_step_asks_for_values_credits_by_them_and_trains_calls_without_advantage_too() -> None:
    group = two_games()
    policy = make_policy(tiny_qwen(), credit=CRITIC, algorithm=replace(RULE, advantage="dr_grpo"))
    values = call_values([group], policy, ALONE, Config(), reply_masks=None)
    assert values == dict.fromkeys(VALUES, 0.0)
    rule = learning_rule(replace(RULE, advantage="dr_grpo"), CRITIC)
    batch = build_batch(
        [group], rule, PhaseClock(), branching_packs=True, costs=PackCosts(pair=0.0), call_values=VALUES
    )
    ((pack,),) = batch.minibatches
    assert pack.values is not None and batch.advantages["t", 0, 1] == 0.0
    assert pack.call_keys == (("t", 0, 0), ("t", 0, 1), ("t", 1, 0))
    assert pack.values.targets.tolist() == [1.0, 0.75, 0.0]
    # Two sequences; .1, the coefficient, of each.
    assert pack.values.weights == pytest.approx([0.025, 0.025, 0.05])
    # Off by .5, 0 and -.5, and targets of 1, .75 and 0.
    assert batch.metrics["policy/seer/value_loss"] == pytest.approx((0.125 / 2 + 0.25 / 2) / 2)
    # The first two weigh 1/4, the third 1/2. Targets: squares (1 + .5625) / 4, mean .4375. Less their values: squares
    # .25 / 4 + .25 / 2, mean .5 / 4 - .5 / 2.
    spread, missing = 1.5625 / 4 - 0.4375**2, 0.1875 - 0.125**2
    assert batch.metrics["policy/seer/value_explained_variance"] == pytest.approx(1 - missing / spread)
    told = policy.train_batch(batch.minibatches, batch.tags, num_steps_done=0)
    assert told["policy/optimizer_steps"] == 1


def test_a_talkative_episode_tells_no_more_of_values_than_one_of_few_calls() -> None:
    # Nine calls of one that was lost, and one of each that was won: 1/3, 1/3, 1/3.
    talkative = make_sample((1,) * 10, (0,) + (1,) * 9, calls=(-1, *range(9)))
    rows = [talkative, *(make_sample((1, 2), (0, 1), repeat=n, calls=(-1, 0)) for n in (1, 2))]
    targets = {("t", 0, index): 0.0 for index in range(9)} | {("t", 1, 0): 1.0, ("t", 2, 0): 1.0}
    values = targets | {("t", 1, 0): 0.0}
    found = value_metrics(values, targets, rows)
    # Targets 0, 1, 1 and errors 0, 1, 0 have one variance.
    assert found["policy/seer/value_explained_variance"] == pytest.approx(0.0)
    assert found["policy/seer/value_loss"] == pytest.approx(1 / 6)


def test_what_is_right_has_no_loss_and_targets_that_are_all_the_same_no_share_of_their_variance() -> None:
    rows = [make_sample((1, 2), (0, 1)), make_sample((1, 2), (0, 1), repeat=1)]
    same = dict.fromkeys([("t", 0, 0), ("t", 1, 0)], 1.0)
    assert value_metrics(same, same, rows) == {"policy/seer/value_loss": 0.0}


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["algorithm.scale_rewards=batch"],
            r"scale_rewards=batch .*scale_rewards=advantages or none",
        ),
        (["rollout.max_resamples=1"], r"rollout\.max_resamples=1 .*credit=critic"),
        (
            ["hardware=tinker", "tinker.base_url=http://localhost:1"],
            r"credit=critic trains a value .*engine=tinker",
        ),
    ],
)
def test_what_does_not_go_with_values_is_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        compose(["workflow=signals", "credit=critic", *overrides], run_dir="x")


def test_values_need_the_whole_trunk_in_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"credit=critic needs hardware\.data_parallel=ddp"):
        compose(["workflow=signals", "credit=critic", "hardware.data_parallel=fsdp"], run_dir="x")


def test_a_run_with_values_scales_advantages_unless_told_otherwise() -> None:
    config = compose(["workflow=signals", "credit=critic"], run_dir="x")
    assert (config.algorithm.advantage, config.algorithm.scale_rewards) == ("dr_grpo", "advantages")
    plain = compose(["workflow=signals", "credit=critic", "algorithm.scale_rewards=none"], run_dir="x")
    assert plain.algorithm.scale_rewards == "none"


def test_every_process_gives_a_tag_the_same_row_though_it_has_no_packs() -> None:
    first, second = (make_policy(tiny_qwen(), credit=CRITIC) for _ in range(2))
    row = make_sample((1, 2, 3), (0, 0, 1), tag="witch")
    first.call_values(build_packs([row], [1.0], ("witch",), max_tokens=100), ("witch",))
    second.call_values([], ("witch",))
    # A step later another tag, before the first in the order of names, is seen, too.
    for policy in (first, second):
        policy.call_values([], ("seer", "witch"))
        assert policy.state_dict()["value_tags"] == ["witch", "seer"]


def test_an_engine_is_given_no_head() -> None:
    of_both = [make_policy(tiny_qwen(), credit=credit).merged_weights() for credit in (CRITIC, None)]
    with_head, without = ([name for name, _ in weights] for weights in of_both)
    assert with_head == without
