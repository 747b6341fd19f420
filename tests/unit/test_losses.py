"""Weights and losses, with numbers one can check by hand."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.factories import make_sample, samples_strategy

from ajet.config.algorithm import AlgorithmConfig
from ajet.records import TrainingSample
from ajet.train.algorithms.aggregations.dapo import dapo
from ajet.train.algorithms.aggregations.dr_grpo import dr_grpo
from ajet.train.algorithms.aggregations.grpo import grpo
from ajet.train.algorithms.aggregations.luspo import luspo
from ajet.train.algorithms.aggregations.role_mean import role_mean
from ajet.train.algorithms.corrections import correction, off_policy_mask, sampling_correction
from ajet.train.algorithms.losses.cispo import cispo
from ajet.train.algorithms.losses.clip import clip
from ajet.train.algorithms.losses.dual_clip import dual_clip
from ajet.train.algorithms.losses.gmpo import gmpo
from ajet.train.algorithms.losses.gspo import gspo
from ajet.train.algorithms.losses.gspo_token import gspo_token
from ajet.train.algorithms.losses.reinforce import reinforce
from ajet.train.algorithms.losses.rloo import rloo
from ajet.train.algorithms.losses.sapo import sapo
from ajet.train.algorithms.losses.vespo import vespo
from ajet.train.algorithms.objective import certain, is_plain, least_of_top, objective
from ajet.train.algorithms.tokens import SampledTokens
from ajet.train.algorithms.weights import Aggregation, BatchTotals, batch_totals, sequence_key, token_weights

AGGREGATIONS: tuple[Aggregation, ...] = (grpo, dapo, partial(dr_grpo, dr_grpo_max_length=7), luspo, role_mean)


def logs(*probabilities: float) -> torch.Tensor:
    return torch.tensor(probabilities).log()


def test_grpo_weighs_every_sequence_alike_and_its_tokens_alike() -> None:
    short, long = make_sample((1, 2), (0, 1)), make_sample((1, 2, 3, 4), (0, 1, 1, 1), repeat=1)
    weights = token_weights([short, long], grpo, batch_totals([short, long]))
    assert weights == [1 / 2, 1 / 6]


def test_dapo_weighs_every_token_of_the_global_batch_alike() -> None:
    samples = [make_sample((1, 2), (0, 1)), make_sample((1, 2, 3), (0, 1, 1), repeat=1)]
    assert token_weights(samples, dapo, BatchTotals(num_sequences=4, num_tokens=8)) == [1 / 8, 1 / 8]


def test_dr_grpo_divides_by_a_constant_length() -> None:
    samples = [make_sample((1, 2), (0, 1)), make_sample((1, 2, 3), (0, 1, 1), repeat=1)]
    assert token_weights(samples, partial(dr_grpo, dr_grpo_max_length=10), batch_totals(samples)) == [1 / 20, 1 / 20]


@given(st.integers(1, 4), st.sampled_from(AGGREGATIONS))
def test_cutting_a_sequence_into_rows_changes_no_weight(num_rows: int, aggregation: Aggregation) -> None:
    other = make_sample((9, 9, 9), (0, 1, 1), repeat=1)
    whole = make_sample(range(num_rows * 2), [n % 2 for n in range(num_rows * 2)])
    cut = [make_sample((2 * n, 2 * n + 1), (0, 1)) for n in range(num_rows)]
    one = token_weights([whole, other], aggregation, batch_totals([whole, other]))
    many = token_weights([*cut, other], aggregation, batch_totals([*cut, other]))
    assert many == [one[0]] * num_rows + [one[1]]


@given(samples_strategy(), st.data())
def test_ranks_that_add_their_totals_up_weigh_their_rows_as_one_rank_would(
    samples: list[TrainingSample], data: st.DataObject
) -> None:
    # Whole sequences go to a rank, as whole episodes do.
    rank_of = {key: data.draw(st.integers(0, 1)) for key in dict.fromkeys(map(sequence_key, samples))}
    shares = [[s for s in samples if rank_of[sequence_key(s)] == rank] for rank in (0, 1)]
    parts = [batch_totals(share) for share in shares]
    by_tag = sum((Counter(part.tokens_by_tag) for part in parts), Counter[str]())
    totals = BatchTotals(
        num_sequences=sum(part.num_sequences for part in parts),
        num_tokens=sum(part.num_tokens for part in parts),
        tokens_by_tag=dict(by_tag),
    )
    assert totals == batch_totals(samples)
    for aggregation in AGGREGATIONS:
        whole = token_weights(samples, aggregation, totals)
        by_row = dict(zip(map(id, samples), whole, strict=True))
        for share in shares:
            assert token_weights(share, aggregation, totals) == [by_row[id(sample)] for sample in share]


def test_luspo_sums_over_a_sequence_and_takes_the_mean_over_sequences() -> None:
    samples = [make_sample((1, 2), (0, 1)), make_sample((1, 2, 3), (0, 1, 1), repeat=1)]
    assert token_weights(samples, luspo, batch_totals(samples)) == [1 / 2, 1 / 2]


def test_role_mean_gives_each_role_the_same_share_and_each_of_its_tokens_the_same_weight() -> None:
    """Seer 1 + 3 tokens in two episodes, witch 2: 1/2 over 4, and 1/2 over 2."""
    short, long = make_sample((1, 2), (0, 1)), make_sample((1, 2, 3, 4), (0, 1, 1, 1), repeat=1)
    other = make_sample((1, 2, 3), (0, 1, 1), tag="witch")
    samples = [short, long, other]
    weights = token_weights(samples, role_mean, batch_totals(samples))
    assert weights == [1 / 8, 1 / 8, 1 / 4]
    assert token_weights([short, long], role_mean, batch_totals([short, long])) == [1 / 4, 1 / 4]  # as dapo


def tokens(
    logp: torch.Tensor, old: torch.Tensor, *advantages: float, entropy: torch.Tensor | None = None
) -> SampledTokens:
    """Tokens of a call each, sampled from the old policy."""
    return SampledTokens(
        logp=logp,
        logp_old=old,
        logp_sampled=old,
        advantages=torch.tensor(advantages),
        entropy=torch.zeros_like(old) if entropy is None else entropy,
        calls=torch.arange(len(advantages)),
    )


def test_on_policy_the_loss_is_minus_the_advantage_and_its_gradient_that_of_the_log_probability() -> None:
    logp = logs(0.5, 0.25).requires_grad_()
    loss, _ = clip(tokens(logp, logp.detach(), 2.0, -1.0), clip_low=0.2, clip_high=0.2)
    assert loss.tolist() == [-2.0, 1.0]
    loss.sum().backward()
    assert logp.grad is not None and logp.grad.tolist() == [-2.0, 1.0]


def test_the_ratio_is_clipped_only_where_it_would_go_further() -> None:
    # Ratios 1.5, 1.5, 0.5, 0.5 with advantages +, -, +, -: clipped are the first (1.2) and the last (0.8).
    logp, old = logs(0.6, 0.6, 0.2, 0.2), logs(0.4, 0.4, 0.4, 0.4)
    loss, clipped = clip(tokens(logp, old, 1.0, -1.0, 1.0, -1.0), clip_low=0.2, clip_high=0.2)
    assert loss.tolist() == pytest.approx([-1.2, 1.5, -0.5, 0.8])
    assert clipped.tolist() == [True, False, False, True]


def test_a_dual_clip_lets_go_of_what_was_punished_and_has_become_far_likelier() -> None:
    # Ratios 1.5, 4 and 4 with A -, -, +: the second is held at delta = 3, the third by the first clip.
    logp = logs(0.3, 0.8, 0.8).requires_grad_()
    loss, clipped = dual_clip(
        tokens(logp, logs(0.2, 0.2, 0.2), -1.0, -1.0, 1.0), clip_low=0.2, clip_high=0.2, delta=3.0
    )
    assert loss.tolist() == pytest.approx([1.5, 3.0, -1.2]) and clipped.tolist() == [False, True, True]
    loss.sum().backward()
    assert logp.grad is not None and logp.grad.tolist() == pytest.approx([1.5, 0.0, 0.0])


def of_one_call(logp: torch.Tensor, old: torch.Tensor, *advantages: float) -> SampledTokens:
    return replace(tokens(logp, old, *advantages), calls=torch.zeros(len(advantages), dtype=torch.int64))


def gradient(loss: torch.Tensor, logp: torch.Tensor) -> list[float]:
    return torch.autograd.grad(loss.sum(), logp)[0].tolist()


def test_sequence_ratios_are_the_geometric_mean_or_the_product_of_a_calls_tokens() -> None:
    # Ratios 4 and 1: the geometric mean is 2, the product 4.
    logp = logs(0.8, 0.5).requires_grad_()
    call = of_one_call(logp, logs(0.2, 0.5), 1.0, 3.0)
    wide = {"clip_low": 0.9, "clip_high": 9.0}
    mean, _ = gspo(call, **wide)
    assert mean.tolist() == pytest.approx([-2.0, -6.0])
    # d s / d logp_t = s / 2 at either token: half of each goes to each.
    assert gradient(mean, logp) == pytest.approx([-4.0, -4.0])
    own, _ = gspo_token(call, **wide)
    assert own.tolist() == pytest.approx([-2.0, -6.0]) and gradient(own, logp) == pytest.approx([-2.0, -6.0])
    product, _ = rloo(call, **wide)
    assert product.tolist() == pytest.approx([-4.0, -12.0]) and gradient(product, logp) == pytest.approx([-16.0, -16.0])


def test_a_geometric_mean_is_one_of_clipped_ratios_where_tokens_are_clipped_first() -> None:
    # Log-ratios log 4, held at .4, and 0: the mean is .2.
    logp = logs(0.8, 0.5).requires_grad_()
    loss, clipped = gmpo(of_one_call(logp, logs(0.2, 0.5), 1.0, 1.0), clip_low=0.4, clip_high=0.4)
    assert loss.tolist() == pytest.approx([-math.exp(0.2)] * 2) and clipped.tolist() == [True, False]
    assert gradient(loss, logp) == pytest.approx([0.0, -math.exp(0.2)])


def test_a_capped_ratio_is_a_weight_that_takes_no_gradient_away() -> None:
    # Ratios 4, .5 and 4, the cap at 3.
    logp = logs(0.8, 0.1, 0.8).requires_grad_()
    loss, clipped, capped = cispo(tokens(logp, logs(0.2, 0.2, 0.2), 1.0, -1.0, -1.0), cap=3.0)
    assert gradient(loss, logp) == pytest.approx([-3.0, 0.5, 3.0])
    assert not clipped.any() and capped.tolist() == [True, False, True]


def test_a_soft_gate_has_the_gradient_of_the_ratio_at_one_and_less_on_either_side() -> None:
    logp = logs(0.2, 0.4, 0.1).requires_grad_()  # ratios 1, 2, .5
    loss = sapo(tokens(logp, logs(0.2, 0.2, 0.2), 1.0, 1.0, 1.0), temperature_pos=2.0)

    def gate(ratio: float) -> float:
        share = 1 / (1 + math.exp(-2 * (ratio - 1)))
        return 4 * share * (1 - share) * ratio

    assert gradient(loss, logp) == pytest.approx([-1.0, -gate(2), -gate(0.5)])


def test_a_soft_weight_is_one_on_policy_and_falls_with_the_replys_distance() -> None:
    # The product of ratios 2 and 2 is 4: A > 0 has the weight 4^2 e^(3 (1 - 4)).
    logp = logs(0.4, 0.4).requires_grad_()
    assert gradient(vespo(of_one_call(logp, logp.detach(), 1.0, 1.0)), logp) == pytest.approx([-1.0, -1.0])
    far = vespo(of_one_call(logp, logs(0.2, 0.2), 1.0, 1.0))
    assert gradient(far, logp) == pytest.approx([-16 * math.exp(-9)] * 2, rel=1e-5)


def test_reinforce_knows_no_ratio() -> None:
    logp = logs(0.8, 0.1).requires_grad_()
    assert gradient(reinforce(tokens(logp, logs(0.2, 0.2), 1.0, -2.0)), logp) == [-1.0, 2.0]


def test_a_reply_that_has_become_impossibly_likelier_has_no_gradient_and_no_nan() -> None:
    logp = torch.tensor([-1.0, -1.0], requires_grad=True)
    loss, _ = rloo(of_one_call(logp, torch.tensor([-80.0, -80.0]), 1.0, 1.0), clip_low=0.2, clip_high=0.2)
    assert gradient(loss, logp) == [0.0, 0.0]


def test_the_kl_penalty_is_added_with_its_coefficient() -> None:
    one = tokens(logs(0.5), logs(0.5), 0.0)
    loss = objective(torch.tensor([3.0]), one, AlgorithmConfig(), kl_coef=0.1, logp_ref_E=logs(0.25))
    assert loss.item() == pytest.approx(3 + 0.1 * (math.log(2) - 0.5))


def test_the_entropy_bonus_is_taken_off_with_its_coefficient() -> None:
    one = tokens(logs(0.5), logs(0.5), 0.0, entropy=torch.tensor([2.0]))
    assert objective(torch.zeros(1), one, AlgorithmConfig(entropy_coef=0.1)).item() == pytest.approx(-0.2)


def test_tokens_that_the_policy_was_sure_of_get_no_credit_but_keep_the_penalty() -> None:
    entropy = torch.tensor([0.2, 0.7])
    both = tokens(logs(0.5, 0.5), logs(0.5, 0.5), 1.0, 1.0, entropy=entropy)
    penalty = 0.1 * (math.log(2) - 0.5)
    loss = objective(
        torch.tensor([-1.0, -1.0]), both, AlgorithmConfig(), kl_coef=0.1, logp_ref_E=logs(0.25, 0.25), least_entropy=0.5
    )
    assert loss.tolist() == pytest.approx([penalty, penalty - 1])
    assert certain(entropy, 0.5).tolist() == [1.0, 0.0]
    assert least_of_top(torch.tensor([3.0, 0.0, 4.0, 1.0, 2.0]), 0.5) == 2.0


def test_an_algorithm_that_puts_anything_around_the_loss_is_not_plain() -> None:
    tokens = SampledTokens(
        logp=torch.tensor([-0.1, -2.0, -0.7]),
        logp_old=torch.tensor([-0.3, -1.0, -0.7]),
        logp_sampled=torch.tensor([-1.3, -0.2, -0.7]),
        advantages=torch.tensor([-1.0, -1.0, 1.0]),
        entropy=torch.tensor([0.1, 1.0, 0.4]),
        calls=torch.tensor([0, 0, 1]),
    )
    loss, reference = torch.tensor([0.4, -0.3, 0.2]), torch.tensor([-0.5, -0.5, -0.5])
    around = set()
    for spec in fields(AlgorithmConfig):
        if spec.type in ("float", "float | None"):
            algorithm = AlgorithmConfig()
            setattr(algorithm, spec.name, 0.5)
            found = objective(loss, tokens, algorithm, kl_coef=algorithm.kl_coef, logp_ref_E=reference)
            if not torch.equal(found, loss):
                around.add(spec.name)
                assert not is_plain(algorithm), spec.name
    assert is_plain(AlgorithmConfig())
    assert {"tis_cap", "mis_low", "mis_high", "kl_coef", "entropy_coef"} <= around


def test_a_mean_over_a_call_stands_at_each_of_its_tokens_and_passes_gradients_on() -> None:
    logp = torch.tensor([1.0, 2.0, 6.0, 5.0], requires_grad=True)
    mixed = replace(tokens(logp, logp.detach(), 0.0, 0.0, 0.0, 0.0), calls=torch.tensor([0, 1, 1, 1]))
    means = mixed.mean_over_call(logp)
    assert means.tolist() == pytest.approx([1.0, 13 / 3, 13 / 3, 13 / 3])
    means[1].backward()
    assert logp.grad is not None and logp.grad.tolist() == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3])


def weights_of(*log_ratios: float, calls: Sequence[int] | None = None, **settings: Any) -> list[float]:
    """The corrections of tokens whose pi_old / mu has these logarithms, a call each unless said."""
    old = torch.tensor(log_ratios)
    mixed = replace(tokens(old, old, *[1.0] * len(log_ratios)), logp_sampled=torch.zeros_like(old))
    if calls is not None:
        mixed = replace(mixed, calls=torch.tensor(calls))
    return sampling_correction(mixed, AlgorithmConfig(**settings)).tolist()


def test_inside_the_band_the_weight_is_the_ratio_itself() -> None:
    ratios = [math.log(ratio) for ratio in (0.4, 0.8, 1.9, 2.5)]
    assert weights_of(*ratios, mis_low=0.5, mis_high=2.0) == pytest.approx([0, 0.8, 1.9, 0])
    assert weights_of(*ratios, mis_low=0.5) == pytest.approx([0, 0.8, 1.9, 2.5])
    assert weights_of(*ratios, mis_high=2.0) == pytest.approx([0.4, 0.8, 1.9, 0])
    assert weights_of(*ratios, tis_cap=1.5) == pytest.approx([0.4, 0.8, 1.5, 1.5])
    assert weights_of(*ratios, tis_floor=0.6, tis_cap=1.5) == pytest.approx([0.6, 0.8, 1.5, 1.5])
    assert weights_of(*ratios, mis_low=0.5, tis_cap=1.5) == pytest.approx([0, 0.8, 1.5, 1.5])
    assert weights_of(*ratios, mis_high=2.0, tis_cap=1.5) == pytest.approx([0.4, 0.8, 1.5, 0])


def test_at_the_level_of_sequences_the_ratio_is_the_product_over_a_call() -> None:
    # Ratios 2 and 2 make 4, which is outside; 2 and .5 make 1.
    doubled, halved = math.log(2), -math.log(2)
    four = (doubled, doubled, doubled, halved)
    level: dict[str, Any] = {"correction_level": "sequence", "calls": (0, 0, 1, 1)}
    assert weights_of(*four, mis_high=3.0, **level) == pytest.approx([0, 0, 1, 1])
    assert weights_of(*four, tis_cap=3.0, **level) == pytest.approx([3, 3, 1, 1])


def test_a_ratio_too_large_for_a_float_is_dropped_or_capped_like_any_other() -> None:
    assert weights_of(1000.0, mis_high=2.0) == [0.0]
    assert weights_of(1000.0, tis_cap=2.0) == [2.0]


def test_what_the_policy_has_left_behind_is_not_punished_any_more() -> None:
    # Two calls that have become e^-1 and e^-.2 times as likely a token; with A > 0 either stays.
    logp = torch.tensor([-2.0, -2.0, -1.2, -2.0])
    moved = replace(tokens(logp, logp, -1.0, -1.0, -1.0, 1.0), calls=torch.tensor([0, 0, 1, 2]))
    moved = replace(moved, logp_sampled=torch.tensor([-0.5, -1.5, -1.0, -1.0]))
    assert off_policy_mask(moved, 0.5).tolist() == [0, 0, 1, 1]
    assert correction(moved, AlgorithmConfig(off_policy_threshold=0.5)).tolist() == [0, 0, 1, 1]
    loss = objective(torch.ones(4), moved, AlgorithmConfig(off_policy_threshold=0.5))
    assert loss.tolist() == [0, 0, 1, 1]
