"""Weights and losses, with numbers one can check by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.factories import make_sample, samples_strategy

from ajet.config.algorithm import AlgorithmConfig
from ajet.records import TrainingSample
from ajet.train.algorithms.aggregation import BatchTotals, LossKind, batch_totals, sequence_key, token_weights
from ajet.train.algorithms.losses import certain, clipped, k3, sampling_correction, token_losses

LOSS_KINDS: tuple[LossKind, ...] = ("grpo", "dapo", "dr_grpo")


def logs(*probabilities: float) -> torch.Tensor:
    return torch.tensor(probabilities).log()


def test_grpo_weighs_every_sequence_alike_and_its_tokens_alike() -> None:
    short, long = make_sample((1, 2), (0, 1)), make_sample((1, 2, 3, 4), (0, 1, 1, 1), repeat=1)
    weights = token_weights([short, long], "grpo", batch_totals([short, long]))
    assert weights == [1 / 2, 1 / 6]


def test_dapo_weighs_every_token_of_the_global_batch_alike() -> None:
    samples = [make_sample((1, 2), (0, 1)), make_sample((1, 2, 3), (0, 1, 1), repeat=1)]
    assert token_weights(samples, "dapo", BatchTotals(num_sequences=4, num_tokens=8)) == [1 / 8, 1 / 8]


def test_dr_grpo_divides_by_a_constant_length() -> None:
    samples = [make_sample((1, 2), (0, 1)), make_sample((1, 2, 3), (0, 1, 1), repeat=1)]
    assert token_weights(samples, "dr_grpo", batch_totals(samples), max_length=10) == [1 / 20, 1 / 20]


@given(st.integers(1, 4), st.sampled_from(["grpo", "dapo", "dr_grpo"]))
def test_cutting_a_sequence_into_rows_changes_no_weight(num_rows: int, kind: str) -> None:
    other = make_sample((9, 9, 9), (0, 1, 1), repeat=1)
    whole = make_sample(range(num_rows * 2), [n % 2 for n in range(num_rows * 2)])
    cut = [make_sample((2 * n, 2 * n + 1), (0, 1)) for n in range(num_rows)]
    one = token_weights([whole, other], kind, batch_totals([whole, other]), max_length=7)  # type: ignore[arg-type]
    many = token_weights([*cut, other], kind, batch_totals([*cut, other]), max_length=7)  # type: ignore[arg-type]
    assert many == [one[0]] * num_rows + [one[1]]


@given(samples_strategy(), st.data())
def test_ranks_that_add_their_totals_up_weigh_their_rows_as_one_rank_would(
    samples: list[TrainingSample], data: st.DataObject
) -> None:
    # Whole sequences go to a rank, as whole episodes do.
    rank_of = {key: data.draw(st.integers(0, 1)) for key in dict.fromkeys(map(sequence_key, samples))}
    shares = [[s for s in samples if rank_of[sequence_key(s)] == rank] for rank in (0, 1)]
    parts = [batch_totals(share) for share in shares]
    totals = BatchTotals(
        num_sequences=sum(part.num_sequences for part in parts), num_tokens=sum(part.num_tokens for part in parts)
    )
    assert totals == batch_totals(samples)
    for kind in LOSS_KINDS:
        whole = token_weights(samples, kind, totals, max_length=7)
        by_row = dict(zip(map(id, samples), whole, strict=True))
        for share in shares:
            assert token_weights(share, kind, totals, max_length=7) == [by_row[id(sample)] for sample in share]


def test_on_policy_the_loss_is_minus_the_advantage_and_its_gradient_that_of_the_log_probability() -> None:
    logp = logs(0.5, 0.25).requires_grad_()
    loss = token_losses(logp, logp.detach(), logp.detach(), torch.tensor([2.0, -1.0]), AlgorithmConfig(), kl_coef=0.0)
    assert loss.tolist() == [-2.0, 1.0]
    loss.sum().backward()
    assert logp.grad is not None and logp.grad.tolist() == [-2.0, 1.0]


def test_the_ratio_is_clipped_only_where_it_would_go_further() -> None:
    # Ratios 1.5, 1.5, 0.5, 0.5 with advantages +, -, +, -: clipped are the first (1.2) and the last (0.8).
    logp, old = logs(0.6, 0.6, 0.2, 0.2), logs(0.4, 0.4, 0.4, 0.4)
    advantage = torch.tensor([1.0, -1.0, 1.0, -1.0])
    settings = AlgorithmConfig(clip_low=0.2, clip_high=0.2)
    assert token_losses(logp, old, old, advantage, settings, kl_coef=0.0).tolist() == pytest.approx(
        [-1.2, 1.5, -0.5, 0.8]
    )
    assert clipped(logp, old, advantage, settings).tolist() == [1.0, 0.0, 0.0, 1.0]


def test_k3_is_zero_at_equality_and_positive_elsewhere() -> None:
    # d = log(.5/.25) = log 2: exp(-d) + d - 1 = .5 + .6931 - 1.
    assert k3(logs(0.5), logs(0.25)).item() == pytest.approx(math.log(2) - 0.5)
    assert k3(logs(0.3), logs(0.3)).item() == 0.0


def test_the_kl_penalty_is_added_with_its_coefficient() -> None:
    logp = logs(0.5)
    loss = token_losses(logp, logp, logp, torch.tensor([0.0]), AlgorithmConfig(), kl_coef=0.1, logp_ref_E=logs(0.25))
    assert loss.item() == pytest.approx(0.1 * (math.log(2) - 0.5))


def test_the_entropy_bonus_is_taken_off_with_its_coefficient() -> None:
    logp = logs(0.5)
    settings = AlgorithmConfig(entropy_coef=0.1)
    loss = token_losses(logp, logp, logp, torch.tensor([0.0]), settings, kl_coef=0.0, entropy_E=torch.tensor([2.0]))
    assert loss.item() == pytest.approx(-0.2)


def test_tokens_that_the_policy_was_sure_of_get_no_credit_but_keep_the_penalty() -> None:
    logp, reference = logs(0.5, 0.5), logs(0.25, 0.25)
    advantage, entropy = torch.tensor([1.0, 1.0]), torch.tensor([0.2, 0.7])
    settings = AlgorithmConfig(min_entropy=0.5)
    penalty = 0.1 * (math.log(2) - 0.5)
    loss = token_losses(logp, logp, logp, advantage, settings, kl_coef=0.1, logp_ref_E=reference, entropy_E=entropy)
    assert loss.tolist() == pytest.approx([penalty, penalty - 1])
    assert certain(entropy, settings).tolist() == [1.0, 0.0]


def test_sampling_corrections_cap_or_drop_by_the_ratio_of_old_policy_to_sampler() -> None:
    old, mu = logs(0.2, 0.4, 0.8), logs(0.4, 0.4, 0.2)  # ratios .5, 1, 4
    assert sampling_correction(old, mu, AlgorithmConfig(tis_cap=2.0)).tolist() == pytest.approx([0.5, 1.0, 2.0])
    assert sampling_correction(old, mu, AlgorithmConfig(mis_low=0.6, mis_high=3.0)).tolist() == [0.0, 1.0, 0.0]


def test_inside_the_band_the_weight_is_the_ratio_itself() -> None:
    ratios = torch.tensor([0.4, 0.8, 1.9, 2.5])

    def weights(**bounds: float) -> list[float]:
        algorithm = replace(AlgorithmConfig(), **bounds)  # type: ignore[arg-type]
        return sampling_correction(torch.log(ratios), torch.zeros(4), algorithm).tolist()

    assert weights(mis_low=0.5, mis_high=2.0) == pytest.approx([0, 0.8, 1.9, 0])
    assert weights(mis_low=0.5) == pytest.approx([0, 0.8, 1.9, 2.5])
    assert weights(mis_high=2.0) == pytest.approx([0.4, 0.8, 1.9, 0])
    assert weights(mis_low=0.5, tis_cap=1.5) == pytest.approx([0, 0.8, 1.5, 1.5])
    assert weights(mis_high=2.0, tis_cap=1.5) == pytest.approx([0.4, 0.8, 1.5, 0])


def test_a_ratio_too_large_for_a_float_is_dropped_or_capped_like_any_other() -> None:
    old, mu = torch.tensor([0.0]), torch.tensor([-1000.0])
    assert sampling_correction(old, mu, AlgorithmConfig(mis_high=2.0)).item() == 0.0
    assert sampling_correction(old, mu, AlgorithmConfig(tis_cap=2.0)).item() == 2.0
