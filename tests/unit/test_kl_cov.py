"""KL-Cov, with numbers one can check by hand."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from tests.factories import make_sample, tiny_qwen
from tests.unit.test_policy_gradient import RULE, TAGS, make_policy, pack

from ajet.config.algorithm import AlgorithmConfig
from ajet.train.algorithms.kl_cov import largest_covariances
from ajet.train.algorithms.objective import objective
from ajet.train.algorithms.tokens import SampledTokens

LOGP_OLD = torch.tensor([-1.0, -3.0, -1.0, -3.0, -2.0])
ADVANTAGES = torch.tensor([2.0, -1.0, -3.0, 2.0, 0.0])
"""Means are -2 and 0, covariances 2, 1, -3, -2 and 0."""


def moved(*by: float) -> SampledTokens:
    """The five tokens, after the policy has moved."""
    return SampledTokens(
        logp=(LOGP_OLD + torch.tensor(by)).requires_grad_(),
        logp_old=LOGP_OLD,
        logp_sampled=LOGP_OLD,
        advantages=ADVANTAGES,
        entropy=torch.zeros(5),
        calls=torch.zeros(5, dtype=torch.long),
    )


@pytest.mark.parametrize(
    ("share", "held"),
    [(0.01, [1, 0, 0, 0, 0]), (0.2, [1, 0, 0, 0, 0]), (0.4, [1, 1, 0, 0, 0]), (1.0, [1, 1, 0, 0, 0])],
)
def test_tokens_with_the_largest_covariances_above_0_are_held_at_least_one(share: float, held: list[float]) -> None:
    assert largest_covariances(LOGP_OLD, ADVANTAGES, share).held(moved(0, 0, 0, 0, 0)).tolist() == held


@pytest.mark.parametrize("advantage", [0.0, 0.1, -1.5])
def test_a_minibatch_whose_advantages_are_all_the_same_holds_none(advantage: float) -> None:
    advantages = torch.full((5,), advantage)
    tokens = replace(moved(0.5, 0.5, 0.5, 0.5, 0.5), advantages=advantages)
    chosen = largest_covariances(LOGP_OLD, advantages, 0.2)
    assert not chosen.held(tokens).any() and not chosen.distance(tokens).any()


def test_what_ties_with_the_last_that_is_held_is_held_too() -> None:
    # Covariances are 1.5, 1.5, -.5, -.5 and -2, of which one is asked for.
    old, advantages = torch.tensor([-1.0, -1.0, -3.0, -3.0, -2.0]), torch.tensor([1.5, 1.5, 0.5, 0.5, -4.0])
    tokens = replace(moved(0, 0, 0, 0, 0), logp_old=old, advantages=advantages)
    assert largest_covariances(old, advantages, 0.2).held(tokens).tolist() == [1, 1, 0, 0, 0]


def test_those_that_are_held_pay_for_moving_either_way_and_others_do_not() -> None:
    tokens = moved(0.5, -0.25, 1.0, 1.0, 1.0)
    chosen = largest_covariances(LOGP_OLD, ADVANTAGES, 0.4)
    loss_E = objective(torch.zeros(5), tokens, AlgorithmConfig(kl_cov_share=0.4, kl_cov_coef=3.0), held=chosen)
    assert loss_E.tolist() == pytest.approx([1.5, 0.75, 0, 0, 0])
    loss_E.sum().backward()
    assert tokens.logp.grad is not None and tokens.logp.grad.tolist() == pytest.approx([3, -3, 0, 0, 0])


def test_a_token_that_has_not_moved_is_not_pushed() -> None:
    tokens = moved(0, 0, 0, 0, 0)
    chosen = largest_covariances(LOGP_OLD, ADVANTAGES, 1.0)
    objective(torch.zeros(5), tokens, AlgorithmConfig(kl_cov_share=1.0), held=chosen).sum().backward()
    assert tokens.logp.grad is not None and not tokens.logp.grad.any()


def test_it_is_the_penalty_of_verls_published_formula() -> None:
    """verl's `loss_mode=kl_cov`: all tokens' covariances about their means, the k largest, coefficient x |log ratio|
    added to the plain surrogate of these."""
    generator = torch.Generator().manual_seed(0)
    old, advantages = -torch.rand(50, generator=generator) * 4, torch.randn(50, generator=generator)
    now = (old + torch.randn(50, generator=generator) * 0.1).requires_grad_()
    largest = ((old - old.mean()) * (advantages - advantages.mean())).argsort(descending=True)[:5]
    expected = torch.zeros(50)
    expected[largest] = 0.7 * (now - old).abs()[largest]
    tokens = SampledTokens(
        logp=now,
        logp_old=old,
        logp_sampled=old,
        advantages=advantages,
        entropy=torch.zeros(50),
        calls=torch.zeros(50, dtype=torch.long),
    )
    chosen = largest_covariances(old, advantages, 0.1)
    found = objective(torch.zeros(50), tokens, AlgorithmConfig(kl_cov_share=0.1, kl_cov_coef=0.7), held=chosen)
    assert torch.allclose(found, expected, atol=1e-6)


def test_the_tokens_that_are_held_are_the_same_however_rows_are_packed() -> None:
    rows = [
        make_sample((1, 2, 3, 4), (0, 1, 1, 1), advantage=1.0, logprobs=(0.0, -0.5, -2.0, -6.0)),
        make_sample((7, 5, 2), (0, 1, 1), repeat=1, advantage=-1.0, logprobs=(0.0, -0.1, -5.0)),
        make_sample((1, 2, 9), (0, 0, 1), repeat=2, tag="witch", advantage=0.0, logprobs=(0.0, 0.0, -3.0)),
    ]
    model = tiny_qwen()
    algorithm = replace(RULE, kl_cov_share=0.4, num_epochs=2)
    found = []
    for max_tokens in (1, 1000):
        policy = make_policy(copy.deepcopy(model), algorithm=algorithm)
        found.append(policy.train_batch([pack(rows, max_tokens=max_tokens)], TAGS, num_steps_done=0))
    assert found[0] == pytest.approx(found[1], rel=1e-4)
    # Two of six: the likely one that did well, and the unlikely one that did badly.
    of_seer, of_witch = (found[0][f"policy/{tag}/held_fraction"] for tag in TAGS)
    assert 5 * of_seer == pytest.approx(2) and of_witch == 0
