"""Packs: every entry once, the budget kept, and the very gradient of unmerged rows."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from hypothesis import settings
from hypothesis import strategies as st
from recipes.small_models.tokenizer import train_tokenizer
from tests.factories import make_sample, samples_strategy, tiny_qwen
from transformers import AutoModelForCausalLM

from ajet.config.algorithm import AlgorithmConfig
from ajet.config.algorithm_checks import built_in, option_settings
from ajet.errors import ConfigError
from ajet.records import TrainingSample
from ajet.train.algorithms.aggregations.grpo import grpo
from ajet.train.algorithms.credit.base import CreditConfig
from ajet.train.algorithms.rule import learning_rule
from ajet.train.algorithms.tokens import SampledTokens
from ajet.train.algorithms.weights import batch_totals, token_weights
from ajet.train.lora import merged_state, with_lora
from ajet.train.optimizer import kl_factor, rate_factor
from ajet.train.packing import Pack, build_packs, subtree_ends
from ajet.train.policy import TrainablePolicy
from ajet.train.recompute import recompute

TAGS = ("seer", "witch")
RULE = AlgorithmConfig(learning_rate=1e-2, max_grad_norm=1e9, clip_high=0.3)


def make_policy(
    model: Any,
    *,
    algorithm: AlgorithmConfig = RULE,
    total_steps: int = 100,
    reference: Any = None,
    recompute_layers: bool = False,
    offload_optimizer: bool = False,
    credit: CreditConfig | None = None,
) -> TrainablePolicy:
    return TrainablePolicy(
        model,
        tokenizer=train_tokenizer([], vocab_size=300, max_context=64),
        accelerator=Accelerator(cpu=True),
        rule=learning_rule(algorithm, credit),
        temperature=0.7,
        total_steps=total_steps,
        reference=reference,
        recompute_layers=recompute_layers,
        num_threads=1,
        offload_optimizer=offload_optimizer,
    )


def pack(samples: list[TrainingSample], *, max_tokens: int = 40) -> list[Pack]:
    return build_packs(samples, token_weights(samples, grpo, batch_totals(samples)), TAGS, max_tokens=max_tokens)


LOSS_ARGS: dict[str, dict[str, Any]] = {"dual_clip": {"delta": 1.5}}
Loss = Callable[[SampledTokens], torch.Tensor]


def token_losses(name: str) -> Loss:
    """What a built-in loss says of tokens."""
    clips = "clip_low" in option_settings("loss", name)
    algorithm = AlgorithmConfig(loss=name, loss_args=LOSS_ARGS.get(name, {}), clip_high=0.3 if clips else 0.2)
    rule = learning_rule(algorithm)
    return lambda tokens: rule.token_losses(tokens)[0]


def sampled_tokens(
    logp: torch.Tensor, old: Sequence[float], advantages: Sequence[float], calls: Sequence[int]
) -> SampledTokens:
    sampled = torch.tensor(old, dtype=torch.float32)
    return SampledTokens(
        logp=logp,
        logp_old=sampled,
        logp_sampled=sampled,
        advantages=torch.tensor(advantages, dtype=torch.float32),
        entropy=torch.zeros_like(sampled),
        calls=torch.tensor(calls),
    )


def unmerged_gradient(model: Any, samples: list[TrainingSample], loss: Loss) -> dict[str, torch.Tensor]:
    """Call by call, plain causal attention over its own row."""
    model.zero_grad()
    weights = token_weights(samples, grpo, batch_totals(samples))
    for sample, weight in zip(samples, weights, strict=True):
        ids = torch.tensor([sample.token_ids])
        logp = torch.log_softmax(model(input_ids=ids).logits[0].float() / 0.7, dim=-1)
        for call in sorted(set(sample.calls) - {-1}):
            places = [t for t, other in enumerate(sample.calls) if other == call]
            of_call = sampled_tokens(
                torch.stack([logp[t - 1, sample.token_ids[t]] for t in places]),
                [sample.logprobs[t] for t in places],
                [sample.advantages[t] for t in places],
                [0] * len(places),
            )
            (weight * loss(of_call)).sum().backward(retain_graph=True)
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def merged_gradient(
    model: Any, samples: list[TrainingSample], loss: Loss, *, max_tokens: int = 40
) -> dict[str, torch.Tensor]:
    model.zero_grad()
    policy = make_policy(model)
    for one in pack(samples, max_tokens=max_tokens):
        logp = policy.forward(one).logp_E
        tokens = sampled_tokens(logp, one.logprobs.tolist(), one.advantages.tolist(), one.calls.tolist())
        (torch.from_numpy(one.weights).float() * loss(tokens)).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def relative_error(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    size = math.sqrt(sum(float(g.square().sum()) for g in other.values()))
    gap = math.sqrt(sum(float((one[name] - other[name]).square().sum()) for name in other))
    return gap / max(size, 1e-6)


@settings(deadline=None, max_examples=40)
@hypothesis.given(samples_strategy(), st.sampled_from([1, 8, 1000]), st.sampled_from(built_in("loss")))
def test_the_merged_gradient_is_the_unmerged_one(samples: list[TrainingSample], max_tokens: int, name: str) -> None:
    model, loss = tiny_qwen(), token_losses(name)
    merged = merged_gradient(model, samples, loss, max_tokens=max_tokens)
    assert relative_error(merged, unmerged_gradient(model, samples, loss)) < 1e-5


@pytest.mark.parametrize("name", built_in("loss"))
def test_each_loss_has_the_gradient_of_plain_rows(name: str) -> None:
    # Two calls in a row, and rows that share what they begin with; neither far from the policy, nor near it.
    rows = [
        make_sample((1, 2, 3, 4, 5, 6), (0, 1, 1, 0, 1, 1), calls=(-1, 0, 0, -1, 1, 1), logprobs=[-2.5] * 6),
        make_sample((1, 2, 3, 7, 8), (0, 1, 1, 1, 1), repeat=1, advantage=-0.5, logprobs=[-2.4] * 5),
        make_sample((1, 2, 9), (0, 0, 1), repeat=2, tag="witch", advantage=-2.0, logprobs=[-3.0] * 3),
    ]
    model, loss = tiny_qwen(), token_losses(name)
    apart = unmerged_gradient(model, rows, loss)
    assert any(float(gradient.abs().max()) > 1e-3 for gradient in apart.values())
    assert relative_error(merged_gradient(model, rows, loss), apart) < 1e-5


def test_a_trajectory_cut_into_rows_has_the_gradient_of_the_whole() -> None:
    whole = make_sample((1, 2, 3, 4, 5, 6), (0, 1, 1, 0, 1, 1), calls=(-1, 0, 0, -1, 1, 1))
    cut = [make_sample((1, 2, 3), (0, 1, 1)), make_sample((1, 2, 3, 4, 5, 6), (0, 0, 0, 0, 1, 1))]
    other = make_sample((1, 2, 7), (0, 1, 1), repeat=1, advantage=-1.0)
    model = tiny_qwen()
    for loss in (token_losses("clip"), token_losses("gspo")):
        parts, one = merged_gradient(model, [*cut, other], loss), merged_gradient(model, [whole, other], loss)
        assert relative_error(parts, one) < 1e-5


@hypothesis.given(samples_strategy(), st.integers(1, 30))
def test_every_sampled_token_is_one_entry_and_the_budget_holds(samples: list[TrainingSample], max_tokens: int) -> None:
    packs = pack(samples, max_tokens=max_tokens)
    wanted = Counter(
        (sample.token_ids[t], sample.logprobs[t], TAGS.index(sample.target_tag))
        for sample in samples
        for t, masked in enumerate(sample.loss_mask)
        if masked
    )
    found = Counter(
        (int(token), float(logprob), int(tag))
        for one in packs
        for token, logprob, tag in zip(one.targets, one.logprobs, one.tags, strict=True)
    )
    assert found == wanted
    longest = max(len(sample.token_ids) for sample in samples)
    assert all(len(one.token_ids) <= max(max_tokens, longest) for one in packs)
    assert sum(one.num_row_tokens for one in packs) == sum(len(sample.token_ids) for sample in samples)


def test_a_token_attends_to_its_ancestors_and_itself_only() -> None:
    (one,) = pack([make_sample((5, 6, 7), (0, 0, 1)), make_sample((5, 6, 9), (0, 0, 1), repeat=1)])
    assert one.token_ids.tolist() == [5, 6, 7, 9] and one.positions.tolist() == [0, 1, 2, 2]
    assert subtree_ends(one.parents).tolist() == [4, 4, 3, 4]
    assert one.predictors.tolist() == [1, 1] and one.targets.tolist() == [7, 9]


def test_an_update_raises_what_was_rewarded_and_lowers_what_was_not() -> None:
    samples = [
        make_sample((1, 2, 3), (0, 0, 1), advantage=1.0),
        make_sample((1, 2, 4), (0, 0, 1), repeat=1, tag="witch", advantage=-1.0),
    ]
    policy = make_policy(tiny_qwen())
    (one,) = pack(samples)
    before = policy.forward(one).logp_E.detach()
    on_policy = Pack(**{name: getattr(one, name) for name in one.__slots__} | {"logprobs": before.double().numpy()})
    metrics = policy.train_batch([[on_policy]], TAGS, num_steps_done=0)
    change = (policy.forward(one).logp_E - before).detach()
    assert change[one.tags == 0].item() > 0 > change[one.tags == 1].item()
    assert metrics["policy/seer/mismatch_kl"] == pytest.approx(0.0, abs=1e-12)
    assert metrics["policy/max_logprob_gap"] < 1e-6
    assert metrics["policy/seer/grad_weight"] == pytest.approx(0.5)
    assert metrics["policy/optimizer_steps"] == 1.0


def shifted(one: Pack, logp: torch.Tensor, by: float) -> Pack:
    """The pack as if the engine had reported `logp + by`."""
    return dataclasses.replace(one, logprobs=logp.detach().double().numpy() + by)


def test_truncated_importance_sampling_scales_the_gradient_by_the_capped_ratio() -> None:
    (one,) = pack([make_sample((1, 2, 3), (0, 0, 1), advantage=1.0)])
    plain, corrected = (
        make_policy(tiny_qwen()),
        make_policy(tiny_qwen(), algorithm=dataclasses.replace(RULE, tis_cap=1.5)),
    )
    logp = plain.forward(one).logp_E
    on_policy = plain.train_batch([[shifted(one, logp, 0.0)]], TAGS, num_steps_done=0)
    # The engine sampled at half the trainer's probability: pi_old / mu = 2, capped at 1.5.
    halved = corrected.train_batch([[shifted(one, logp, -math.log(2))]], TAGS, num_steps_done=0)
    assert halved["policy/grad_norm"] == pytest.approx(1.5 * on_policy["policy/grad_norm"], rel=1e-5)
    assert halved["policy/seer/clip_fraction"] == 0.0
    assert halved["policy/seer/effective_sample_size"] == pytest.approx(1)
    # k3 of ratio pi / mu = 2: 2 - 1 - log 2.
    assert halved["policy/seer/mismatch_kl"] == pytest.approx(1 - math.log(2), rel=1e-5)
    assert halved["policy/max_logprob_gap"] == pytest.approx(math.log(2), rel=1e-5)


@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_a_token_above_the_cap_is_counted_as_capped_and_not_as_clipped(advantage: float) -> None:
    (one,) = pack([make_sample((1, 2, 3), (0, 0, 1), advantage=advantage)])
    policy = make_policy(tiny_qwen(), algorithm=AlgorithmConfig(loss="cispo"))
    # The engine sampled at a sixth of the trainer's probability: a ratio of 6, capped at 5.
    sampled = shifted(one, policy.forward(one).logp_E, -math.log(6))
    metrics = policy.train_batch([[sampled]], TAGS, num_steps_done=0)
    assert metrics["policy/seer/capped_fraction"] == 1 and metrics["policy/grad_norm"] > 0
    assert not any(metrics[f"policy/seer/clip_fraction{side}"] for side in ("", "_low", "_high"))


def test_the_second_optimizer_step_of_a_batch_is_clipped_against_the_sampler() -> None:
    (one,) = pack([make_sample((1, 2, 3), (0, 0, 1), advantage=1.0)])
    policy = make_policy(tiny_qwen())
    same = shifted(one, policy.forward(one).logp_E, 0.0)
    metrics = policy.train_batch([[same]] * 40, TAGS, num_steps_done=0)
    assert metrics["policy/optimizer_steps"] == 40.0
    assert metrics["policy/seer/mismatch_kl"] == pytest.approx(0.0, abs=1e-12)  # of the first step only
    assert 0 < metrics["policy/seer/clip_fraction"] == metrics["policy/seer/clip_fraction_high"] < 1
    assert metrics["policy/seer/clip_fraction_low"] == metrics["policy/seer/capped_fraction"] == 0
    # The policy at the sampler's side at first and, with steps of .01, far above it in the end.
    assert metrics["policy/seer/ratio_min"] == pytest.approx(1, abs=1e-5) and metrics["policy/seer/ratio_max"] > 1.3
    assert metrics["policy/seer/ratio_min"] <= metrics["policy/seer/ratio_p01"] <= metrics["policy/seer/ratio_p99"]
    assert 0 < metrics["policy/seer/effective_sample_size"] < 1 and metrics["policy/seer/masked_fraction"] == 0
    assert policy.forward(one).logp_E.item() > same.logprobs.item() + math.log(1.3)


def test_layers_that_are_computed_again_have_the_same_gradient() -> None:
    (one,) = pack([make_sample((1, 2, 3, 4), (0, 1, 1, 1)), make_sample((1, 2, 5), (0, 0, 1), repeat=1)])
    gradients = []
    for recompute_layers in (False, True):
        model = tiny_qwen()
        policy = make_policy(model, recompute_layers=recompute_layers)
        calls: list[int] = []
        model.model.layers[0].mlp.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        policy.forward(one).logp_E.sum().backward()
        assert len(calls) == 1 + recompute_layers
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name])


def test_layers_that_are_not_known_cannot_be_computed_again() -> None:
    model = tiny_qwen()
    model.model.layers = torch.nn.ModuleList()
    with pytest.raises(ConfigError, match=r"hardware\.gradient_checkpointing"):
        recompute(model)


def test_adapters_are_pulled_back_to_what_lies_beneath_them() -> None:
    (one,) = pack([make_sample((1, 2, 3), (0, 0, 1), advantage=0.0)])
    algorithm = dataclasses.replace(RULE, kl_coef=1.0)
    found = []
    for reference in (tiny_qwen(seed=1), None):
        torch.manual_seed(0)
        model = with_lora(tiny_qwen(seed=1), rank=2, alpha=4.0, targets=["q_proj", "v_proj"])
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.5)  # adapters begin at zero, where there is nothing to pull back
        policy = make_policy(model, algorithm=algorithm, reference=reference)
        metrics = policy.train_batch([[one]], TAGS, num_steps_done=0)
        found.append((metrics, [p.detach().clone() for p in model.parameters() if p.requires_grad]))
    assert found[0][0] == found[1][0] and found[0][0]["policy/seer/kl_ref"] > 1e-4
    for with_second, alone in zip(found[0][1], found[1][1], strict=True):
        assert torch.equal(with_second, alone)


def test_the_penalty_pulls_back_to_the_reference() -> None:
    (one,) = pack([make_sample((1, 2, 3), (0, 0, 1), advantage=0.0)])
    model, reference = tiny_qwen(seed=1), tiny_qwen(seed=2)
    with torch.no_grad():
        reference.lm_head.weight *= 20  # random models are nearly uniform, hence nearly alike
    policy = make_policy(model, algorithm=dataclasses.replace(RULE, kl_coef=1.0), reference=reference)
    target = make_policy(reference).forward(one).logp_E.item()
    same = shifted(one, policy.forward(one).logp_E, 0.0)
    before = abs(policy.forward(one).logp_E.item() - target)
    first = policy.train_batch([[same]], TAGS, num_steps_done=0)
    d = same.logprobs.item() - target
    assert first["policy/seer/kl_ref"] == pytest.approx(math.exp(-d) + d - 1, rel=1e-4)
    assert abs(policy.forward(one).logp_E.item() - target) < before


def test_entropy_is_reported_always_and_learned_from_only_where_a_bonus_is_paid() -> None:
    (one,) = pack([make_sample((1, 2, 3), (0, 0, 1), advantage=0.0)])
    reporting = make_policy(tiny_qwen())
    paying = make_policy(tiny_qwen(), algorithm=dataclasses.replace(RULE, entropy_coef=0.1))
    assert not reporting.forward(one).entropy_E.requires_grad and paying.forward(one).entropy_E.requires_grad
    assert torch.equal(reporting.forward(one).entropy_E, paying.forward(one).entropy_E)
    with torch.no_grad():
        assert not paying.forward(one).entropy_E.requires_grad
    same = shifted(one, paying.forward(one).logp_E, 0.0)
    metrics = [policy.train_batch([[same]], TAGS, num_steps_done=0) for policy in (reporting, paying)]
    assert metrics[0]["policy/grad_norm"] == 0 < metrics[1]["policy/grad_norm"]
    assert metrics[0]["policy/seer/entropy"] == metrics[1]["policy/seer/entropy"] > 0


def test_only_the_share_of_tokens_of_most_entropy_is_learned_from_wherever_they_are_packed() -> None:
    rows = [
        make_sample((1, 2, 3, 4), (0, 1, 1, 1)),
        make_sample((7, 5, 2), (0, 1, 1), repeat=1),
        make_sample((1, 2, 9), (0, 0, 1), repeat=2, tag="witch", advantage=0.0),
    ]
    model = tiny_qwen()
    with torch.no_grad():
        model.lm_head.weight *= 20
    algorithm = dataclasses.replace(RULE, top_entropy_quantile=0.5)
    found = []
    for max_tokens in (1, 1000):
        policy = make_policy(copy.deepcopy(model), algorithm=algorithm)
        found.append(policy.train_batch([pack(rows, max_tokens=max_tokens)], TAGS, num_steps_done=0))
    assert found[0] == pytest.approx(found[1], rel=1e-4)
    # Three of the six tokens are below the middle.
    of_seer, of_witch = (found[0][f"policy/{tag}/certain_fraction"] for tag in TAGS)
    assert 5 * of_seer + of_witch == pytest.approx(3)


def test_the_learning_rate_that_is_logged_is_the_one_that_was_used() -> None:
    (one,) = pack([make_sample((1, 2, 3), (0, 0, 1))])
    falling = dataclasses.replace(RULE, learning_rate=0.4, lr_schedule="linear")
    policy = make_policy(tiny_qwen(), algorithm=falling, total_steps=2)
    rates = [policy.train_batch([[one]], TAGS, num_steps_done=i)["policy/learning_rate"] for i in range(2)]
    assert rates == pytest.approx([0.4, 0.2])


def test_with_adapters_an_update_moves_them_alone_and_the_merged_weights_with_them() -> None:
    model = with_lora(tiny_qwen(), rank=2, alpha=4.0, targets=["q_proj", "down_proj"])
    policy = make_policy(model)
    before = {name: tensor.clone() for name, tensor in policy.merged_weights()}
    policy.train_batch([pack([make_sample((1, 2, 3), (0, 0, 1))])], TAGS, num_steps_done=0)
    moved = {name for name, tensor in policy.merged_weights() if not torch.equal(before[name], tensor)}
    assert moved == {name for name in before if "q_proj.weight" in name or "down_proj.weight" in name}


def test_a_batch_with_nothing_to_learn_moves_no_weight() -> None:
    policy = make_policy(tiny_qwen())
    policy.train_batch([pack([make_sample((1, 2, 3), (0, 0, 1))])], TAGS, num_steps_done=0)  # gives Adam a momentum
    before = {name: tensor.clone() for name, tensor in policy.merged_weights()}
    metrics = policy.train_batch([[]], TAGS, num_steps_done=0)
    assert metrics["policy/optimizer_steps"] == 0.0
    assert all(torch.equal(before[name], tensor) for name, tensor in policy.merged_weights())


def good_batch() -> list[list[Pack]]:
    return [pack([make_sample((1, 2, 3), (0, 0, 1)), make_sample((1, 2, 4), (0, 0, 1), advantage=-1.0)])]


@pytest.mark.parametrize("advantage", [math.inf, math.nan, 1e300, 3e38])
def test_what_is_not_finite_skips_the_step_and_leaves_weights_and_moments_as_they_were(advantage: float) -> None:
    # 1e300 is infinite in float32; 3e38 is not, but the squares of its gradient are.
    bad = pack([make_sample((1, 2, 3), (0, 0, 1), advantage=advantage)])
    guarded, undisturbed = make_policy(tiny_qwen()), make_policy(tiny_qwen())
    for policy in (guarded, undisturbed):
        policy.train_batch(good_batch(), TAGS, num_steps_done=0)
    metrics = guarded.train_batch([bad], TAGS, num_steps_done=1)
    assert metrics["policy/skipped_nonfinite"] == 1.0 and metrics["policy/optimizer_steps"] == 0.0
    assert all(math.isfinite(value) for value in metrics.values()) and guarded.is_finite()
    for policy in (guarded, undisturbed):
        policy.train_batch(good_batch(), TAGS, num_steps_done=2)
    same = zip(guarded.merged_weights(), undisturbed.merged_weights(), strict=True)
    assert all(torch.equal(a, b) for (_, a), (_, b) in same)


def test_a_skipped_minibatch_is_no_part_of_what_is_reported_of_the_others() -> None:
    bad = pack([make_sample((1, 2, 3), (0, 0, 1), advantage=math.inf)])
    one, other = make_policy(tiny_qwen()), make_policy(tiny_qwen())
    expected = other.train_batch(good_batch(), TAGS, num_steps_done=0)
    found = one.train_batch([bad, *good_batch()], TAGS, num_steps_done=0)
    assert found == {**expected, "policy/skipped_nonfinite": 1.0}


def test_weights_that_are_not_finite_are_noticed() -> None:
    policy = make_policy(tiny_qwen())
    assert policy.is_finite()
    with torch.no_grad():
        policy.model.lm_head.weight[3, 5] = math.inf
    assert not policy.is_finite()


def test_schedules_count_training_steps_whether_or_not_they_held_anything() -> None:
    rule = dataclasses.replace(RULE, learning_rate=1.0, num_minibatches=2, warmup_steps=1, lr_schedule="linear")
    policy = make_policy(tiny_qwen(), algorithm=rule, total_steps=4)
    empty: list[list[Pack]] = [[], []]
    rates = [policy.train_batch(empty, TAGS, num_steps_done=i)["policy/learning_rate"] for i in range(4)]
    # Two minibatches a step: the rates of minibatches 0, 2, 4 and 6.
    assert rates == pytest.approx([1 / 3, 1.0, 4 / 6, 2 / 6])


def test_a_longer_run_has_the_rate_of_its_new_length_from_its_first_resumed_step() -> None:
    falling = dataclasses.replace(RULE, lr_schedule="linear")
    short, longer = (make_policy(tiny_qwen(), algorithm=falling, total_steps=steps) for steps in (2, 4))
    for i in range(2):
        short.train_batch(good_batch(), TAGS, num_steps_done=i)
    longer.load_state_dict(copy.deepcopy(short.state_dict()))
    before = {name: tensor.clone() for name, tensor in longer.merged_weights()}
    metrics = longer.train_batch(good_batch(), TAGS, num_steps_done=2)
    assert metrics["policy/learning_rate"] == pytest.approx(0.5e-2)
    assert any(not torch.equal(before[name], tensor) for name, tensor in longer.merged_weights())


def test_state_saved_and_loaded_goes_on_identically() -> None:
    batch = [pack([make_sample((1, 2, 3), (0, 0, 1)), make_sample((1, 2, 4), (0, 0, 1), advantage=-1.0)])]
    one, other = make_policy(tiny_qwen()), make_policy(tiny_qwen(seed=1))
    one.train_batch(batch, TAGS, num_steps_done=0)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    one.train_batch(batch, TAGS, num_steps_done=0)
    other.train_batch(batch, TAGS, num_steps_done=0)
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(one.merged_weights(), other.merged_weights(), strict=True))


def test_moments_that_are_kept_elsewhere_change_no_step_and_are_resumed_by_either() -> None:
    batch = [pack([make_sample((1, 2, 3), (0, 0, 1)), make_sample((1, 2, 4), (0, 0, 1), advantage=-1.0)])]
    here = make_policy(tiny_qwen())
    elsewhere = make_policy(tiny_qwen(), offload_optimizer=True)
    for step in range(2):
        one, other = (each.train_batch(batch, TAGS, num_steps_done=step) for each in (here, elsewhere))
        assert one == pytest.approx(other)
    resumed = make_policy(tiny_qwen(seed=1))
    resumed.load_state_dict(copy.deepcopy(elsewhere.state_dict()))
    for policy in (here, elsewhere, resumed):
        policy.train_batch(batch, TAGS, num_steps_done=2)
    for (name, weight), (_, second), (_, third) in zip(
        here.merged_weights(), elsewhere.merged_weights(), resumed.merged_weights(), strict=True
    ):
        torch.testing.assert_close(weight, second, msg=name)
        torch.testing.assert_close(weight, third, msg=name)


def test_the_learning_rate_warms_up_and_falls_as_told() -> None:
    rule = AlgorithmConfig(warmup_steps=3, lr_schedule="linear")
    assert [rate_factor(step, rule, 7) for step in range(8)] == [0.25, 0.5, 0.75, 1.0, 0.75, 0.5, 0.25, 0.0]


def test_a_penalty_on_a_linear_schedule_loses_its_pull() -> None:
    (one,) = pack([make_sample((1, 2, 3), (0, 0, 1), advantage=0.0)])
    reference = tiny_qwen(seed=2)
    with torch.no_grad():
        reference.lm_head.weight *= 20
    rule = dataclasses.replace(RULE, kl_coef=1.0, kl_schedule="linear")
    assert [kl_factor(step, rule, 4) for step in range(6)] == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    policy = make_policy(tiny_qwen(seed=1), algorithm=rule, total_steps=4, reference=reference)
    losses = [policy.train_batch([[one]], TAGS, num_steps_done=i) for i in range(6)]
    shares = [line["policy/loss"] / line["policy/seer/kl_ref"] for line in losses]
    assert shares == pytest.approx([1.0, 0.75, 0.5, 0.25, 0.0, 0.0], rel=1e-5)
    assert losses[4]["policy/grad_norm"] == 0.0 < losses[3]["policy/grad_norm"]


def test_adapters_are_merged_into_plain_weights_that_give_the_same_outputs(tmp_path: Path) -> None:
    base = tiny_qwen()
    names = set(dict(merged_state(base)))
    model = with_lora(base, rank=2, alpha=4.0, targets=["q_proj", "down_proj"])
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)  # B starts at zero, which would hide a wrong merge
    state = dict(merged_state(model))
    assert set(state) == names
    policy = make_policy(model)
    policy.model_writer()(tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    ids = torch.tensor([[1, 2, 3, 4]])
    assert torch.allclose(plain(input_ids=ids).logits, model(input_ids=ids).logits, atol=1e-5)
    assert np.isclose(sum(p.requires_grad for p in model.parameters()), 8)


def test_modes_of_torch_that_a_workflow_has_left_switched_change_no_training() -> None:
    (one,) = pack([make_sample((1, 2, 3), (0, 0, 1), advantage=1.0)])
    plain, odd = make_policy(tiny_qwen(seed=1)), make_policy(tiny_qwen(seed=1))
    expected = plain.train_batch([[one]], TAGS, num_steps_done=0)
    with torch.no_grad(), torch.autocast("cpu"):
        assert odd.train_batch([[one]], TAGS, num_steps_done=0) == expected
    trained = zip(plain.model.parameters(), odd.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in trained)
