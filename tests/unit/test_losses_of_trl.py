"""Losses and aggregations against TRL's own loss code on the same tensors: values, and gradients by log-probability.

What runs is `_compute_loss` of TRL's trainers. They are made without a model or a data set, which that code does not
ask for, and their forward pass gives the log-probabilities and entropies of the test.
"""

from __future__ import annotations

import importlib
import math
import sys
from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from tests.factories import make_sample
from torch import Tensor

from ajet.config.algorithm import AlgorithmConfig
from ajet.train.algorithms.adaptive_entropy import EntropyBonus
from ajet.train.algorithms.objective import least_of_top, objective
from ajet.train.algorithms.rule import learning_rule
from ajet.train.algorithms.tokens import SampledTokens
from ajet.train.algorithms.weights import batch_totals
from ajet.train.following_reference import FollowingReference

LENGTHS = (5, 2, 1, 4, 6, 3)
"""Of six replies, an episode each."""
ADVANTAGES = (1.2, -0.7, 0.4, -1.1, 0.0, 2.0)
LONGEST = max(LENGTHS)
MASK = torch.arange(LONGEST) < torch.tensor(LENGTHS)[:, None]


@pytest.fixture(scope="module")
def trainers() -> SimpleNamespace:
    """TRL's, imported without vLLM, which it would load beside and which takes as long as all else."""
    loaded = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "vllm"}
    for name in loaded:
        del sys.modules[name]
    sys.modules["vllm"] = None  # type: ignore[assignment]
    try:
        return SimpleNamespace(
            GRPO=importlib.import_module("trl.trainer.grpo_trainer").GRPOTrainer,
            RLOO=importlib.import_module("trl.trainer.rloo_trainer").RLOOTrainer,
            synced=importlib.import_module("trl.trainer.callbacks").SyncRefModelCallback._sync_target_model,
            GMPO=importlib.import_module("trl.experimental.gmpo.gmpo_trainer").GMPOTrainer,
        )
    finally:
        del sys.modules["vllm"]
        sys.modules.update(loaded)


def numbers(seed: int, size: float) -> Tensor:
    return torch.randn(len(LENGTHS), LONGEST, generator=torch.Generator().manual_seed(seed)) * size


OLD = -torch.rand(len(LENGTHS), LONGEST, generator=torch.Generator().manual_seed(1)) * 3
NOW = OLD + numbers(2, 0.3)
"""Ratios from .5 to 2: on both sides of every bound below."""
MU = OLD + numbers(3, 0.2)
REFERENCE = OLD + numbers(4, 0.5)
ENTROPY = torch.rand(len(LENGTHS), LONGEST, generator=torch.Generator().manual_seed(5)) * 2


def of_trl(trainer: Any, inputs: dict[str, Tensor] | None = None, **settings: Any) -> tuple[float, Tensor]:
    """The loss of TRL's code, and its gradient (B, T)."""
    logps, entropy = NOW.clone().requires_grad_(), settings.pop("entropy", ENTROPY)

    class Given(trainer):  # type: ignore[misc]
        def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, None]:
            return logps, entropy, None

    made: Any = object.__new__(Given)
    arguments = {
        "delta": None,
        "use_bias_correction_kl": False,
        "steps_per_generation": 1,
        "sapo_temperature_pos": 1.0,
        "sapo_temperature_neg": 1.05,
        "vespo_k_pos": 2.0,
        "vespo_lambda_pos": 3.0,
        "vespo_k_neg": 3.0,
        "vespo_lambda_neg": 2.0,
        "entropy_target": 0.0,
        "entropy_coef_delta": 0.0,
        "entropy_coef_min": 0.0,
        "entropy_coef_max": 1.0,
    }
    plain = {
        "loss_type": "grpo",
        "epsilon_low": 0.2,
        "epsilon_high": 0.3,
        "beta": 0.0,
        "importance_sampling_level": "token",
        "top_entropy_quantile": 1.0,
        "off_policy_mask_threshold": None,
        "use_vllm": False,
        "vllm_importance_sampling_correction": False,
        "max_completion_length": 10,
        "use_adaptive_entropy": False,
        "_metrics": {"train": defaultdict(list)},
    }
    made.args = SimpleNamespace(**arguments | {name: settings[name] for name in arguments if name in settings})
    for name, value in (plain | settings).items():
        setattr(made, name, value)
    made.accelerator, made.model = Accelerator(cpu=True), SimpleNamespace(training=True)
    made.current_gradient_accumulation_steps, made.aux_loss_enabled = 1, False
    made._entropy_bonus_enabled, made._entropy_window_stats = made.use_adaptive_entropy, None
    ids = torch.zeros(len(LENGTHS), LONGEST, dtype=torch.long)
    loss = made._compute_loss(
        None,
        {
            "prompt_ids": ids[:, :1],
            "prompt_mask": ids[:, :1] + 1,
            "completion_ids": ids,
            "completion_mask": MASK.long(),
            "advantages": torch.tensor(ADVANTAGES),
            "old_per_token_logps": OLD,
            "old_logps": (OLD * MASK).sum(1),
            "sampling_per_token_logps": MU,
            "ref_per_token_logps": REFERENCE,
            "num_items_in_batch": MASK.sum(),
        }
        | (inputs or {}),
    )
    loss.backward()
    assert logps.grad is not None
    return float(loss.detach()), logps.grad


def of_ours(
    sampled: Tensor = OLD,
    *,
    least_entropy: float = 0.0,
    kept: Tensor = MASK,
    entropy: Tensor = ENTROPY,
    bonus: EntropyBonus | None = None,
    **settings: Any,
) -> tuple[float, Tensor]:
    """The same by ajet's losses, aggregations and what surrounds them, of what is `kept` of all replies (B, T)."""
    rule = learning_rule(AlgorithmConfig(**{"clip_low": 0.2, "clip_high": 0.3} | settings))
    logps = NOW.clone().requires_grad_()
    tokens = SampledTokens(
        logp=logps[kept],
        logp_old=OLD[kept],
        logp_sampled=sampled[kept],
        advantages=torch.tensor(ADVANTAGES)[:, None].expand_as(kept)[kept],
        entropy=entropy[kept],
        calls=torch.arange(len(LENGTHS))[:, None].expand_as(kept)[kept],
    )
    rows = [make_sample(range(n + 1), [0] + [1] * n, repeat=i) for i, n in enumerate(LENGTHS) if kept[i].any()]
    totals = replace(batch_totals(rows), num_sequences=len(LENGTHS))
    weights = torch.zeros(len(LENGTHS))
    weights[kept.any(1)] = torch.tensor(rule.token_weights(rows, totals))
    weights = weights[:, None].expand_as(kept)[kept]
    loss_E, *_ = rule.token_losses(tokens)
    kl_coef = rule.config.kl_coef
    reference = REFERENCE[kept] if kl_coef else None
    loss_E = objective(
        loss_E,
        tokens,
        rule.config,
        kl_coef=kl_coef,
        logp_ref_E=reference,
        least_entropy=least_entropy,
        entropy_coef_E=None if bonus is None else loss_E.new_tensor(bonus.coefficients(["seer"])),
    )
    loss = (weights * loss_E).sum()
    loss.backward()
    assert logps.grad is not None
    return float(loss.detach()), logps.grad


def assert_same(ours: tuple[float, Tensor], trls: tuple[float, Tensor]) -> None:
    assert ours[0] == pytest.approx(trls[0], rel=1e-5)
    assert float(trls[1].norm()) > 0
    assert float((ours[1] - trls[1]).norm() / trls[1].norm()) < 1e-5


AGGREGATIONS: dict[str, dict[str, Any]] = {
    "grpo": {"aggregation": "grpo"},
    # Of one batch on one device: there the two of them are the same.
    "bnpo": {"aggregation": "dapo"},
    "dapo": {"aggregation": "dapo"},
    "dr_grpo": {"aggregation": "dr_grpo", "dr_grpo_max_length": 10},
    "luspo": {"aggregation": "luspo"},
}


@pytest.mark.parametrize("loss_type", AGGREGATIONS)
@pytest.mark.parametrize(
    ("loss", "trls"),
    [
        ({"loss": "clip"}, {}),
        ({"loss": "dual_clip", "loss_args": {"delta": 1.4}}, {"delta": 1.4}),
        ({"loss": "gspo"}, {"importance_sampling_level": "sequence"}),
        ({"loss": "gspo_token"}, {"importance_sampling_level": "sequence"}),
    ],
)
def test_each_clipped_loss_with_each_aggregation_is_trls(
    loss: dict[str, Any], trls: dict[str, Any], loss_type: str, trainers: SimpleNamespace
) -> None:
    assert_same(of_ours(**loss, **AGGREGATIONS[loss_type]), of_trl(trainers.GRPO, loss_type=loss_type, **trls))


@pytest.mark.parametrize(
    ("ours", "trls"),
    [
        (
            {"loss": "cispo", "loss_args": {"cap": 1.2}, "aggregation": "dapo"},
            {"loss_type": "cispo", "epsilon_high": 1.2},
        ),
        ({"loss": "sapo"}, {"loss_type": "sapo"}),
        (
            {"loss": "sapo", "loss_args": {"temperature_pos": 3.0, "temperature_neg": 5.0}},
            {"loss_type": "sapo", "sapo_temperature_pos": 3.0, "sapo_temperature_neg": 5.0},
        ),
        ({"loss": "vespo", "aggregation": "dapo"}, {"loss_type": "vespo"}),
        (
            {
                "loss": "vespo",
                "aggregation": "dapo",
                "loss_args": {"k_pos": 1.0, "lambda_pos": 2.0, "k_neg": 4.0, "lambda_neg": 0.5},
            },
            {
                "loss_type": "vespo",
                "vespo_k_pos": 1.0,
                "vespo_lambda_pos": 2.0,
                "vespo_k_neg": 4.0,
                "vespo_lambda_neg": 0.5,
            },
        ),
    ],
)  # fmt: skip
def test_losses_that_clip_nothing_are_trls(
    ours: dict[str, Any], trls: dict[str, Any], trainers: SimpleNamespace
) -> None:
    settings = {"clip_low": 0.2, "clip_high": 0.2} | ours
    assert_same(of_ours(**settings), of_trl(trainers.GRPO, **trls))


def test_vespo_weighs_by_the_ratio_to_the_sampler_as_trls_with_a_correction(trainers: SimpleNamespace) -> None:
    corrected = {"importance_sampling_ratio": torch.exp((OLD - MU) * MASK)}
    ours = of_ours(MU, loss="vespo", aggregation="dapo", clip_high=0.2)
    assert_same(ours, of_trl(trainers.GRPO, corrected, loss_type="vespo"))


def test_gmpo_is_trls(trainers: SimpleNamespace) -> None:
    assert_same(of_ours(loss="gmpo"), of_trl(trainers.GMPO))


def test_rloo_is_trls(trainers: SimpleNamespace) -> None:
    assert_same(
        of_ours(loss="rloo", clip_low=0.5, clip_high=0.5), of_trl(trainers.RLOO, epsilon_low=0.5, epsilon_high=0.5)
    )


@pytest.mark.parametrize("share", [0.2, 0.55])
@pytest.mark.parametrize("loss", ["clip", "gspo"])
def test_the_tokens_of_most_entropy_are_trls(share: float, loss: str, trainers: SimpleNamespace) -> None:
    level = "sequence" if loss == "gspo" else "token"
    ours = of_ours(loss=loss, least_entropy=least_of_top(ENTROPY[MASK], share))
    assert_same(ours, of_trl(trainers.GRPO, importance_sampling_level=level, top_entropy_quantile=share))


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("loss", ["clip", "gspo"])
def test_tokens_and_whole_replies_that_are_masked_enter_a_loss_as_in_trl(
    level: str, loss: str, trainers: SimpleNamespace
) -> None:
    log_ratio = (OLD - MU) * MASK
    ratio = torch.exp(log_ratio if level == "token" else log_ratio.sum(1, keepdim=True))
    assert 0 < int((ratio > 1.2).sum()) < ratio.numel()
    weight = {"importance_sampling_ratio": torch.where(ratio > 1.2, 0.0, ratio)}
    trls = {"use_vllm": True, "vllm_importance_sampling_correction": True}
    of_level = "sequence" if loss == "gspo" else "token"
    ours = of_ours(MU, loss=loss, correction_level=level, mis_high=1.2)
    assert_same(ours, of_trl(trainers.GRPO, weight, importance_sampling_level=of_level, **trls))


def test_replies_that_the_policy_has_left_behind_are_masked_as_in_trl(trainers: SimpleNamespace) -> None:
    threshold = 0.1
    distance = ((MU - NOW) * MASK).sum(1) / MASK.sum(1)
    bad = torch.tensor(ADVANTAGES) < 0
    assert 0 < int((distance[bad] > threshold).sum()) < int(bad.sum())
    ours = of_ours(MU, off_policy_threshold=threshold)
    assert_same(ours, of_trl(trainers.GRPO, off_policy_mask_threshold=threshold))


@pytest.mark.parametrize("loss_type", ["grpo", "dapo"])
def test_the_penalty_and_the_corrections_weight_surround_a_loss_as_in_trl(
    loss_type: str, trainers: SimpleNamespace
) -> None:
    ratio = torch.exp(OLD - MU)
    weight = {"importance_sampling_ratio": torch.where(ratio > 1.1, 0.0, ratio)}
    trls = {"loss_type": loss_type, "beta": 0.1, "use_vllm": True, "vllm_importance_sampling_correction": True}
    ours = of_ours(MU, kl_coef=0.1, mis_high=1.1, **AGGREGATIONS[loss_type])
    assert_same(ours, of_trl(trainers.GRPO, weight, **trls))


@pytest.mark.parametrize("loss_type", ["grpo", "dapo"])
def test_the_penalty_weighted_by_the_ratio_is_trls(loss_type: str, trainers: SimpleNamespace) -> None:
    ours = of_ours(kl_coef=0.1, kl_bias_correction=True, **AGGREGATIONS[loss_type])
    assert_same(ours, of_trl(trainers.GRPO, loss_type=loss_type, beta=0.1, use_bias_correction_kl=True))


@pytest.mark.parametrize("loss_type", AGGREGATIONS)
@pytest.mark.parametrize("loss", ["clip", "gspo"])
def test_replies_that_were_cut_are_left_out_with_trls_denominators(
    loss: str, loss_type: str, trainers: SimpleNamespace
) -> None:
    kept = MASK & torch.tensor([True, False, True, True, False, True])[:, None]
    level = "sequence" if loss == "gspo" else "token"
    masked = {"completion_mask": kept.long(), "num_items_in_batch": kept.sum()}
    trls = {"loss_type": loss_type, "importance_sampling_level": level, "beta": 0.1}
    ours = of_ours(loss=loss, kept=kept, kl_coef=0.1, **AGGREGATIONS[loss_type])
    assert_same(ours, of_trl(trainers.GRPO, masked, **trls))


def test_a_reference_follows_as_trls(trainers: SimpleNamespace) -> None:
    policy, ours, trls = (torch.nn.Linear(3, 2) for _ in range(3))
    trls.load_state_dict(ours.state_dict())
    algorithm = AlgorithmConfig(kl_coef=0.1, ref_sync_every=1, ref_sync_alpha=0.6)
    FollowingReference(ours.parameters(), policy.parameters(), algorithm).step_done(1)
    trainers.synced(policy, trls, 0.6)
    for found, expected in zip(ours.parameters(), trls.parameters(), strict=True):
        assert torch.equal(found, expected)


def test_a_bonus_that_follows_the_entropy_is_trls(trainers: SimpleNamespace) -> None:
    settings: dict[str, Any] = {"entropy_target": 1.0, "entropy_coef": 0.1, "entropy_coef_delta": 0.06}
    settings["entropy_coef_max"] = 0.2
    bonus, coefficient, last = EntropyBonus(AlgorithmConfig(**settings)), 0.1, math.inf
    found = []
    for mean in (0.5, 0.5, 0.5, 1.5, 1.5, 1.5, 1.5, 1.5, 0.5, 0.5):
        entropy = ENTROPY * mean / ENTROPY[MASK].mean()
        told: dict[str, dict[str, list[float]]] = {"train": defaultdict(list)}
        trls = settings | {"entropy_coef": coefficient, "_last_world_entropy": last, "_metrics": told}
        theirs = of_trl(trainers.GRPO, entropy=entropy, loss_type="dapo", use_adaptive_entropy=True, **trls)
        assert_same(of_ours(entropy=entropy, bonus=bonus, aggregation="dapo", **settings), theirs)
        bonus.measured({"seer": mean})
        (coefficient,), last = told["train"]["entropy_coef"], mean
        found += bonus.coefficients(["seer"])
    assert found == pytest.approx([0.16, 0.2, 0.2, 0, 0, 0, 0, 0, 0.06, 0.12])
