"""Training on a real GPU: the numbers that the CPU gives, and what only a GPU has.

`make gpu` runs these tests; everywhere else they are skipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from experiments.gpu.attention import dense_attention, flex_attention_of, one_pack, random_heads
from experiments.gpu.measuring import peak_gib_of
from experiments.gpu.passes import Gradients, gradients, largest_difference, make_policy, packed_pass, padded_pass
from experiments.gpu.rows import TAG, Groups, make_rows, packs_of, row_weights
from experiments.gpu.shapes import SMALL, make_model
from recipes.small_models.tokenizer import train_tokenizer
from torch.nn.attention import SDPBackend, sdpa_kernel

from ajet.config.algorithm import AlgorithmConfig
from ajet.config.hardware import BLOCK
from ajet.train.algorithms.rule import learning_rule
from ajet.train.checkpoint import CheckpointFolder, load_trainer_state
from ajet.train.lora import with_lora
from ajet.train.packing import Pack
from ajet.train.policy import TrainablePolicy
from ajet.train.scoring import PackScorer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]

DEVICE = torch.device("cuda")
CPU = torch.device("cpu")
TREES = Groups(num_groups=2, group_size=4, num_prompt=40, num_sampled=24)
ROWS = make_rows(TREES, vocabulary=SMALL.vocabulary)
LARGE = Groups(num_groups=1, group_size=4, num_prompt=200, num_sampled=60)
PACKS = packs_of(ROWS, max_tokens=TREES.num_unique)


def gradients_of_packs(
    device: torch.device,
    *,
    bf16: bool = False,
    recompute_layers: bool = False,
    compiled: bool = False,
    blocks_from: int | None = None,
    packs: Sequence[Pack] = PACKS,
) -> Gradients:
    model = make_model(SMALL, CPU).to(device)
    policy = make_policy(
        model, device, bf16=bf16, recompute_layers=recompute_layers, compiled=compiled, blocks_from=blocks_from
    )
    assert policy.why_no_blocks is None
    packed_pass(policy, packs)
    return {name: gradient.cpu() for name, gradient in gradients(model).items()}


def gradients_of_rows(*, bf16: bool) -> Gradients:
    model = make_model(SMALL, CPU).to(DEVICE)
    padded_pass(model, ROWS, row_weights(ROWS), bf16=bf16, rows_a_forward=1)
    return {name: gradient.cpu() for name, gradient in gradients(model).items()}


def trained(policy: TrainablePolicy, steps: range) -> dict[str, torch.Tensor]:
    for step in steps:
        policy.train_batch([PACKS], [TAG], num_steps_done=step)
    return {name: weight.detach().cpu().clone() for name, weight in policy.merged_weights()}


def test_a_pack_has_the_gradient_of_its_plain_rows_in_float32() -> None:
    assert largest_difference(gradients_of_packs(DEVICE), gradients_of_rows(bf16=False))[1] < 1e-5


def test_in_bf16_packs_are_no_further_from_float32_than_plain_rows_are() -> None:
    exact = gradients_of_rows(bf16=False)
    of_packs = largest_difference(gradients_of_packs(DEVICE, bf16=True), exact)[1]
    assert of_packs < 2 * largest_difference(gradients_of_rows(bf16=True), exact)[1]


def test_the_gradient_is_the_one_that_the_cpu_gives() -> None:
    assert largest_difference(gradients_of_packs(DEVICE), gradients_of_packs(CPU))[1] < 1e-5


def test_layers_that_are_computed_again_give_the_same_gradient() -> None:
    again = gradients_of_packs(DEVICE, recompute_layers=True)
    assert largest_difference(again, gradients_of_packs(DEVICE))[1] < 1e-6


@pytest.mark.parametrize("recompute_layers", [False, True])
def test_compiled_layers_give_the_same_gradient(recompute_layers: bool) -> None:
    compiled = gradients_of_packs(DEVICE, recompute_layers=recompute_layers, compiled=True)
    assert largest_difference(compiled, gradients_of_packs(DEVICE))[1] < 1e-5


@pytest.mark.parametrize("bf16", [False, True])
def test_the_head_in_pieces_gives_the_numbers_and_gradients_of_the_whole(bf16: bool) -> None:
    found: list[tuple[torch.Tensor, Gradients]] = []
    for piece in (1, 1 << 30):
        model = make_model(SMALL, CPU).to(DEVICE)
        AcceleratorState._reset_state(reset_partial_state=True)
        accelerator = Accelerator(cpu=DEVICE.type == "cpu", mixed_precision="bf16" if bf16 else "no")
        output = PackScorer(model, accelerator, temperature=0.7, piece=piece).score(PACKS[0])
        output.logp_E.sum().backward()
        found.append((output.logp_E.detach(), gradients(model)))
    (pieces, of_pieces), (whole, of_whole) = found
    close = 2e-2 if bf16 else 1e-5
    torch.testing.assert_close(pieces, whole, rtol=close, atol=close)
    assert largest_difference(of_pieces, of_whole)[1] < close


def test_adam_is_fused_and_takes_the_steps_that_it_takes_on_the_cpu() -> None:
    # One behind the other: Accelerate's state, the device included, is the process's.
    on_cpu = trained(make_policy(make_model(SMALL, CPU), CPU, bf16=False), range(3))
    policy = make_policy(make_model(SMALL, CPU).to(DEVICE), DEVICE, bf16=False)
    adam: Any = policy._optimizer._adam
    assert {group["fused"] for group in adam.param_groups} == {True}
    on_gpu = trained(policy, range(3))
    for name, weight in on_cpu.items():
        torch.testing.assert_close(on_gpu[name], weight, rtol=1e-5, atol=1e-6)


def test_a_run_that_is_resumed_goes_on_as_one_that_never_stopped(tmp_path: Path) -> None:
    policy = make_policy(make_model(SMALL, DEVICE), DEVICE, bf16=True)
    policy._tokenizer = train_tokenizer([], vocab_size=SMALL.vocabulary, max_context=128)
    trained(policy, range(2))
    folder = CheckpointFolder(tmp_path, keep=1)
    saved = folder.save(2, save_model=policy.model_writer(), trainer_state={"policy": policy.state_dict()})
    resumed = make_policy(make_model(SMALL, DEVICE, seed=5), DEVICE, bf16=True)
    resumed.load_state_dict(load_trainer_state(saved)["policy"])
    wanted = trained(policy, range(2, 4))
    for name, weight in trained(resumed, range(2, 4)).items():
        torch.testing.assert_close(weight, wanted[name], rtol=1e-6, atol=1e-7)


def test_gradient_checkpointing_takes_less_memory() -> None:
    rows = make_rows(Groups(num_groups=1, group_size=1, num_prompt=512, num_sampled=32), vocabulary=SMALL.vocabulary)
    packs = packs_of(rows, max_tokens=544)
    peaks = []
    for recompute_layers in (False, True):
        policy = make_policy(make_model(SMALL, DEVICE), DEVICE, bf16=True, recompute_layers=recompute_layers)
        packed_pass(policy, packs)  # what libraries take at their first use is not asked for

        def one_more(policy: TrainablePolicy = policy) -> None:
            packed_pass(policy, packs)

        peaks.append(peak_gib_of(one_more, DEVICE))
        del policy, one_more
    assert peaks[1] < peaks[0]


def test_attention_by_blocks_gives_what_the_dense_mask_gives_and_its_gradients() -> None:
    pack = one_pack(LARGE)
    heads = random_heads(SMALL, len(pack.token_ids), DEVICE, torch.float32, grad=True)
    results = []
    for attention in (dense_attention(pack, DEVICE), flex_attention_of(pack, DEVICE)):
        out = attention(*heads)
        results.append([out.detach(), *torch.autograd.grad(out.square().sum(), heads)])
    # Triton multiplies float32 by tf32 where torch lets it.
    for dense, flex in zip(*results, strict=True):
        assert float((flex - dense).norm() / dense.norm()) < 2e-3


@pytest.mark.parametrize(("bf16", "close"), [(False, 2e-3), (True, 5e-2)])
@pytest.mark.parametrize("recompute_layers", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_training_by_blocks_has_the_gradients_of_dense_masks(
    compiled: bool, recompute_layers: bool, bf16: bool, close: float
) -> None:
    # Of two lengths: torch compiles the second for any.
    packs = [
        one_pack(Groups(num_groups=1, group_size=4, num_prompt=num, num_sampled=60), vocabulary=SMALL.vocabulary)
        for num in (200, 333)
    ]
    how = {"bf16": bf16, "recompute_layers": recompute_layers, "compiled": compiled}
    dense, blocks = (gradients_of_packs(DEVICE, **how, blocks_from=first, packs=packs) for first in (None, BLOCK))
    assert largest_difference(blocks, dense)[1] < close


def test_adapters_beside_a_reference_move_alike_by_blocks_and_by_dense_masks() -> None:
    pack = one_pack(LARGE, vocabulary=SMALL.vocabulary)
    moved = []
    for blocks_from in (None, BLOCK):
        torch.manual_seed(0)
        model = with_lora(make_model(SMALL, CPU), rank=4, alpha=8.0, targets=["q_proj", "v_proj"]).to(DEVICE)
        AcceleratorState._reset_state(reset_partial_state=True)
        policy = TrainablePolicy(
            model,
            tokenizer=None,
            accelerator=Accelerator(),
            rule=learning_rule(AlgorithmConfig(kl_coef=0.1, learning_rate=1e-3)),
            temperature=1.0,
            total_steps=10,
            reference=None,
            recompute_layers=True,
            num_threads=None,
            blocks_from=blocks_from,
        )
        policy.train_batch([[pack], [pack]], [TAG], num_steps_done=0)
        moved.append(dict(policy.merged_weights()))
    for name, weight in moved[0].items():
        torch.testing.assert_close(moved[1][name], weight, rtol=1e-3, atol=1e-4)


def test_a_plain_row_attends_by_a_kernel_that_needs_no_mask() -> None:
    rows = make_rows(Groups(num_groups=1, group_size=1, num_prompt=200, num_sampled=60), vocabulary=SMALL.vocabulary)
    (row,) = packs_of(rows, max_tokens=260)
    policy = make_policy(make_model(SMALL, DEVICE), DEVICE, bf16=True, blocks_from=BLOCK)
    assert row.is_chain
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # the only one that may be chosen, and it takes no mask
        packed_pass(policy, [row])
