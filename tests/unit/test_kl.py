"""The penalty on a distance to the reference: its estimates as numbers, and whose gradient each has as a loss."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from ajet.config.algorithm import AlgorithmConfig
from ajet.config.algorithm_checks import check_algorithm
from ajet.errors import ConfigError
from ajet.train.algorithms.kl import k1, k2, k3, kl_loss
from ajet.train.algorithms.tokens import SampledTokens

HALF, QUARTER = torch.tensor([0.5]).log(), torch.tensor([0.25]).log()
REFERENCE = torch.tensor([0.2, 0.5, 0.3])
START = torch.tensor([0.3, -0.4, 1.1])
"""Logits of the three tokens that the policy can say."""


def test_the_three_estimates_of_one_token() -> None:
    # d = log(.5 / .25) = log 2; for the other way round -log 2.
    assert k1(HALF, QUARTER).item() == pytest.approx(math.log(2))
    assert k2(HALF, QUARTER).item() == pytest.approx(math.log(2) ** 2 / 2)
    assert k3(HALF, QUARTER).item() == pytest.approx(math.log(2) - 0.5)
    assert k3(QUARTER, HALF).item() == pytest.approx(1 - math.log(2))
    assert [estimate(HALF, HALF).item() for estimate in (k1, k2, k3)] == [0, 0, 0]


def gradient_of_mean(*, moved: Tensor | None = None, **settings: Any) -> Tensor:
    """By the logits, of the mean that the penalty has over all tokens as they were sampled.

    Args:
        moved: what was added to the logits since.
    """
    logits = (START if moved is None else START + moved).clone().requires_grad_()
    sampled = START.softmax(0)
    tokens = SampledTokens(
        logp=logits.log_softmax(0),
        logp_old=sampled.log(),
        logp_sampled=sampled.log(),
        advantages=torch.zeros(3),
        entropy=torch.zeros(3),
        calls=torch.arange(3),
    )
    penalty = kl_loss(tokens, REFERENCE.log(), AlgorithmConfig(kl_coef=1.0, **settings))
    (gradient,) = torch.autograd.grad((sampled * penalty).sum(), logits)
    return gradient


def gradient_of_kl(*, moved: Tensor | None = None, forward: bool = False) -> Tensor:
    """Of KL(pi || ref), summed over all tokens; `forward`: of KL(ref || pi)."""
    logits = (START if moved is None else START + moved).clone().requires_grad_()
    logp, ref = logits.log_softmax(0), REFERENCE.log()
    kl = (REFERENCE * (ref - logp)).sum() if forward else (logp.exp() * (logp - ref)).sum()
    (gradient,) = torch.autograd.grad(kl, logits)
    return gradient


def test_on_tokens_of_the_policys_own_k2_has_the_divergences_gradient_k3_that_of_the_other_way_and_k1_none() -> None:
    torch.testing.assert_close(gradient_of_mean(kl_estimator="k2"), gradient_of_kl())
    torch.testing.assert_close(gradient_of_mean(kl_estimator="k3"), gradient_of_kl(forward=True))
    torch.testing.assert_close(gradient_of_mean(kl_estimator="k1"), torch.zeros(3))
    assert not torch.allclose(gradient_of_kl(), gradient_of_kl(forward=True), rtol=0.1)


@pytest.mark.parametrize("estimator", ["k1", "k3"])
@pytest.mark.parametrize("moved", [None, torch.tensor([0.5, 0.0, -0.7])])
def test_weighted_by_the_ratio_the_gradient_is_the_divergences_also_once_the_policy_has_moved(
    estimator: str, moved: Tensor | None
) -> None:
    found = gradient_of_mean(moved=moved, kl_estimator=estimator, kl_bias_correction=True)
    torch.testing.assert_close(found, gradient_of_kl(moved=moved))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kl_coef": 0.1, "kl_estimator": "k1"}, "kl_estimator=k1 as a loss pulls nowhere"),
        ({"kl_coef": 0.1, "kl_estimator": "k2", "kl_bias_correction": True}, "kl_estimator=k2 has the KL divergence's"),
        ({"kl_estimator": "k2"}, r"algorithm\.kl_estimator=k2 has no effect with algorithm\.kl_coef=0"),
        ({"kl_bias_correction": True}, r"algorithm\.kl_bias_correction=true has no effect with algorithm\.kl_coef=0"),
    ],
)  # fmt: skip
def test_what_would_pull_nowhere_or_elsewhere_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_algorithm(AlgorithmConfig(**settings))
