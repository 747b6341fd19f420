"""Trees by FlexAttention's blocks: what the dense mask gives, and its gradients; no block of the mask is left out."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.factories import make_sample, samples_strategy, tiny_qwen
from tests.flex_on_cpu import flex_on_cpu
from tests.model_families import tiny_model
from torch.nn.attention.flex_attention import create_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention
from transformers.masking_utils import causal_mask_function, sliding_window_causal_mask_function

from ajet.config.algorithm import AlgorithmConfig
from ajet.config.hardware import BLOCK, WORTH_BLOCKS, HardwareConfig, PackCosts
from ajet.records import TrainingSample
from ajet.train.algorithms.rule import learning_rule
from ajet.train.attention import ancestor_blocks, ancestor_mask, attends_by_mask, block_mask
from ajet.train.exactness import measured_why_no_blocks
from ajet.train.lora import with_lora
from ajet.train.packing import Pack, build_packs, subtree_ends
from ajet.train.policy import TrainablePolicy
from ajet.train.recompute import recompute
from ajet.train.scoring import PackScorer

TAGS = ("seer", "witch")
CPU = torch.device("cpu")


def pack_of(samples: list[TrainingSample], *, max_tokens: int = 10_000) -> list[Pack]:
    return build_packs(samples, [1.0] * len(samples), TAGS, max_tokens=max_tokens, costs=PackCosts(pair=0.0))


def tree(*, shared: int, branches: int, length: int) -> Pack:
    """One pack of rows that begin alike."""
    rows = [[*range(shared), *((7 * i + k) % 11 for k in range(length))] for i in range(branches)]
    (pack,) = pack_of(
        [
            make_sample([t % 12 for t in row], (0,) * shared + (1,) * length, repeat=i, advantage=(-1.0) ** i)
            for i, row in enumerate(rows)
        ]
    )
    assert not pack.is_chain
    return pack


@given(samples_strategy(max_rows=12), st.sampled_from([1, 2, 3, 4, 7]))
def test_blocks_are_left_out_where_nobody_sees_anybody_and_whole_where_everybody_does(
    samples: list[TrainingSample], size: int
) -> None:
    for pack in pack_of(samples, max_tokens=60):
        ends_U = torch.from_numpy(subtree_ends(pack.parents))
        some_NN, every_NN = ancestor_blocks(ends_U, size=size)
        num = len(some_NN)
        seen = torch.zeros(num * size, num * size, dtype=torch.bool)
        seen[: len(ends_U), : len(ends_U)] = ancestor_mask(ends_U)
        by_block = seen.view(num, size, num, size).transpose(1, 2).flatten(2)
        assert torch.equal(some_NN, by_block.any(-1))
        # A block of one token is whole where it sees itself; that it is also looked into costs nothing to be told.
        assert torch.equal(every_NN, by_block.all(-1) & ~torch.eye(num, dtype=torch.bool))


@given(samples_strategy(max_rows=12), st.sampled_from([None, 1, 3]))
def test_each_pair_of_a_block_mask_is_that_of_the_dense_one(samples: list[TrainingSample], window: int | None) -> None:
    seen: Any = causal_mask_function if window is None else sliding_window_causal_mask_function(window)
    for pack in pack_of(samples):
        num, positions_U = len(pack.token_ids), torch.from_numpy(pack.positions)
        ends_U = torch.from_numpy(subtree_ends(pack.parents))
        mask = block_mask(ends_U, positions_U, seen)
        assert mask.shape[-2:] == (num, num)
        found = create_mask(mask.mask_mod, 1, 1, num, num, device="cpu")[0, 0]
        near = positions_U[:, None] - positions_U[None, :] < (window or num)
        assert torch.equal(found, ancestor_mask(ends_U) & near)


def test_of_a_large_tree_most_blocks_are_left_out() -> None:
    pack = tree(shared=2 * BLOCK, branches=8, length=2 * BLOCK)
    ends_U, positions_U = torch.from_numpy(subtree_ends(pack.parents)), torch.from_numpy(pack.positions)
    plain: Any = causal_mask_function
    mask = block_mask(ends_U, positions_U, plain)
    # 18 blocks or so: each branch sees the trunk's two and its own.
    assert mask.sparsity() > 70
    window: Any = sliding_window_causal_mask_function(8)
    whole, whole_in_windows = mask.full_kv_num_blocks, block_mask(ends_U, positions_U, window).full_kv_num_blocks
    assert whole is not None and int(whole.sum()) > 0
    assert whole_in_windows is not None and int(whole_in_windows.sum()) == 0


def score_gradients(
    model: Any, packs: list[Pack], *, blocks_from: int | None, precision: str = "no"
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Log-probabilities of all entries, and gradients of their sum, in which no two count alike."""
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=True, mixed_precision=precision)
    scorer = PackScorer(model, accelerator, temperature=0.7, blocks_from=blocks_from)
    assert scorer.why_no_blocks is None
    model.zero_grad()
    logps = []
    for pack in packs:
        logp_E = scorer.score(pack).logp_E
        (logp_E * torch.linspace(-1, 2, len(logp_E))).sum().backward()
        logps.append(logp_E.detach())
    AcceleratorState._reset_state(reset_partial_state=True)
    return torch.cat(logps), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def relative_error(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    size = math.sqrt(sum(float(g.square().sum()) for g in other.values()))
    return math.sqrt(sum(float((one[name] - g).square().sum()) for name, g in other.items())) / max(size, 1e-6)


def adapted(seed: int = 1) -> Any:
    torch.manual_seed(0)
    model = with_lora(tiny_qwen(seed=seed), rank=2, alpha=4.0, targets=["q_proj", "v_proj"])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.5)
    return model


@settings(deadline=None, max_examples=12)
@given(samples_strategy(), st.sampled_from([8, 1000]))
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("make", [tiny_qwen, adapted])
def test_the_gradient_of_any_tree_by_blocks_is_the_dense_masks(
    make: Any, checkpointing: bool, samples: list[TrainingSample], max_tokens: int
) -> None:
    found = []
    packs = pack_of(samples, max_tokens=max_tokens)
    for blocks_from in (None, 0):
        model = make()
        if checkpointing:
            recompute(model)
        with flex_on_cpu() as attention:
            found.append(score_gradients(model, packs, blocks_from=blocks_from))
        if blocks_from is None:
            assert attention.num_calls == 0
    (dense, of_dense), (blocks, of_blocks) = found
    torch.testing.assert_close(blocks, dense, rtol=1e-5, atol=1e-5)
    assert relative_error(of_blocks, of_dense) < 1e-5


@pytest.mark.slow
def test_the_kernel_that_torch_compiles_for_this_machine_leaves_out_the_right_blocks() -> None:
    # Of the CPU's kernel there is no backward, but unlike the uncompiled form it skips what the blocks say. Of one
    # length: where lengths vary, torch 2.13 writes C++ for it that does not compile.
    pack = tree(shared=150, branches=4, length=100)
    ends_U, positions_U = torch.from_numpy(subtree_ends(pack.parents)), torch.from_numpy(pack.positions)
    query, key, value = (torch.randn(1, num, len(ends_U), 16) for num in (4, 2, 2))
    compiled: Any = torch.compile(flex_attention, dynamic=False)
    plain: Any = causal_mask_function
    with torch.no_grad():
        blocks = compiled(query, key, value, block_mask=block_mask(ends_U, positions_U, plain), enable_gqa=True)
    dense = scaled_dot_product_attention(query, key, value, attn_mask=ancestor_mask(ends_U), enable_gqa=True)
    torch.testing.assert_close(blocks, dense, rtol=1e-5, atol=1e-5)


def test_only_packs_that_branch_and_are_long_enough_go_by_blocks() -> None:
    short, long = tree(shared=4, branches=2, length=3), tree(shared=60, branches=3, length=40)
    chain = pack_of([make_sample([t % 12 for t in range(200)], (0,) * 9 + (1,) * 191)])
    with flex_on_cpu() as attention:
        model = tiny_qwen()
        scorer = PackScorer(model, Accelerator(cpu=True), temperature=1.0, blocks_from=BLOCK)
        calls = []
        for pack in (short, long, *chain):
            before = attention.num_calls
            scorer.score(pack)
            calls.append(attention.num_calls - before)
    assert calls == [0, len(model.model.layers), 0]


@pytest.mark.parametrize("lora", [False, True])
def test_an_update_by_blocks_with_a_reference_is_the_one_by_dense_masks(lora: bool) -> None:
    pack = tree(shared=70, branches=3, length=40)
    states, metrics = [], []
    for blocks_from in (None, BLOCK):
        model = adapted() if lora else tiny_qwen(seed=1)
        with flex_on_cpu():
            policy = TrainablePolicy(
                model,
                tokenizer=None,
                accelerator=Accelerator(cpu=True),
                rule=learning_rule(AlgorithmConfig(learning_rate=1e-3, kl_coef=0.5, entropy_coef=0.01)),
                temperature=0.7,
                total_steps=10,
                reference=None if lora else tiny_qwen(seed=2),
                recompute_layers=True,
                num_threads=None,
                blocks_from=blocks_from,
            )
            metrics.append(policy.train_batch([[pack], [pack]], TAGS, num_steps_done=0))
        states.append(dict(policy.merged_weights()))
    assert metrics[0]["policy/seer/kl_ref"] > 1e-6
    assert metrics[1] == pytest.approx(metrics[0], rel=1e-4, abs=1e-6)
    start = dict((adapted() if lora else tiny_qwen(seed=1)).state_dict())
    moved = False
    for name, weight in states[0].items():
        torch.testing.assert_close(states[1][name], weight, rtol=1e-4, atol=2e-5)
        moved |= name in start and not torch.equal(weight, start[name])
    assert moved or lora


def test_in_mixed_precision_queries_keys_and_values_have_one_format() -> None:
    # Qwen3's norms of queries and keys give float32 under autocast, its values are bf16.
    pack = tree(shared=70, branches=3, length=40)
    with flex_on_cpu():
        dense, _ = score_gradients(tiny_qwen(), [pack], blocks_from=None, precision="bf16")
        blocks, _ = score_gradients(tiny_qwen(), [pack], blocks_from=0, precision="bf16")
    torch.testing.assert_close(blocks, dense, rtol=2e-2, atol=2e-2)


def test_a_model_with_an_attention_of_its_own_keeps_it() -> None:
    assert attends_by_mask(tiny_qwen()) is None
    eager = tiny_model("gemma2", attention="eager")
    assert "gemma2 computes attention in a way of its own (eager)" in str(attends_by_mask(eager))
    assert eager.config._attn_implementation == "eager"
    without = tiny_model("falcon")
    assert attends_by_mask(without) == "transformers has no FlexAttention for falcon"
    assert without.config._attn_implementation == "sdpa"
    scorer = PackScorer(eager, Accelerator(cpu=True), temperature=1.0, blocks_from=0)
    assert scorer.why_no_blocks is not None
    assert torch.isfinite(scorer.score(tree(shared=4, branches=2, length=3)).logp_E).all()


def test_what_a_saved_model_is_said_to_be_does_not_name_the_attention_it_was_trained_with(tmp_path: Any) -> None:
    model = tiny_qwen()
    assert attends_by_mask(model) is None
    model.save_pretrained(tmp_path)
    assert "flex_attention" not in (tmp_path / "config.json").read_text()


def test_blocks_that_are_wrong_are_found_by_measuring() -> None:
    model = tiny_model("llama")
    assert attends_by_mask(model) is None
    with flex_on_cpu() as attention:
        assert measured_why_no_blocks(model, CPU) is None
        assert attention.num_calls == len(model.model.layers)
    with flex_on_cpu(sharper=1.1):
        assert "FlexAttention of llama is off by" in str(measured_why_no_blocks(model, CPU))


@pytest.mark.parametrize(
    ("device", "attention", "most_tokens", "first"),
    [
        ("cpu", "auto", 1 << 20, None),
        ("cpu", "dense", 1 << 20, None),
        ("cuda", "dense", 1 << 20, None),
        ("cuda", "auto", 4096, None),
        ("cuda", "auto", 16384, WORTH_BLOCKS),
        ("cuda", "flex", 2048, BLOCK),
        ("cuda", "flex", 64, None),
    ],
)
def test_the_settings_say_from_what_size_on_blocks_are_used(
    device: str, attention: str, most_tokens: int, first: int | None
) -> None:
    assert HardwareConfig(device=device, attention=attention).blocks_from(most_tokens) == first
