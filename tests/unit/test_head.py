"""The head in pieces: the numbers and gradients of all logits at once, in a small part of their memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from accelerate import Accelerator
from hypothesis import strategies as st
from tests.factories import make_sample, tiny_qwen
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, CohereConfig, Gemma2Config, GPT2Config, GraniteConfig

from ajet.train.algorithms.aggregations.grpo import grpo
from ajet.train.algorithms.weights import batch_totals, token_weights
from ajet.train.head import Head, find_head, score_pieces, score_whole
from ajet.train.lora import with_lora
from ajet.train.packing import build_packs
from ajet.train.scoring import PackScorer

IDS = torch.tensor([5, 9, 7, 3, 5])
SMALL: dict[str, Any] = {
    **{"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1},
    **{"num_attention_heads": 2, "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
}


def graded(
    score: str, head: Head, hidden: Tensor, entries: Tensor, targets: Tensor, temperature: float, piece: int
) -> list[Tensor]:
    """Outputs, and the gradients of a sum of both in which every entry counts differently."""
    hidden = hidden.clone().requires_grad_()
    head.linear.zero_grad()
    if score == "pieces":
        logp, entropy = score_pieces(head, hidden, entries, targets, temperature=temperature, piece=piece)
    else:
        logits = head.logits(hidden)
        logp, entropy = score_whole(logits, entries, targets, temperature=temperature, entropy_gradient=True)
    share = torch.linspace(-1, 2, len(targets))
    (share * logp + share.flip(0).square() * entropy).sum().backward()
    gradients = [leaf.grad for leaf in (hidden, *head.linear.parameters()) if leaf.grad is not None]
    assert len(gradients) == 1 + len(list(head.linear.parameters()))
    return [logp.detach(), entropy.detach(), *gradients]


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(
    st.integers(1, 6).flatmap(lambda k: st.tuples(st.just(k), st.lists(st.integers(0, k - 1), min_size=1))),
    st.integers(1, 60),
    st.sampled_from([0.3, 1.0, 1.7]),
    st.sampled_from([(1.0, None), (0.2, 3.0), (4.0, 1.0)]),
    st.booleans(),
)
def test_pieces_of_any_size_give_the_numbers_and_gradients_of_the_whole(
    hidden_and_entries: tuple[int, list[int]],
    piece: int,
    temperature: float,
    shape: tuple[float, float | None],
    bias: bool,
) -> None:
    num, entries = hidden_and_entries
    torch.manual_seed(num + len(entries))
    linear = nn.Linear(5, 11, bias=bias)
    targets = torch.randint(0, 11, (len(entries),))
    asked = (Head(linear, *shape), 2 * torch.randn(num, 5), torch.tensor(entries), targets, temperature, piece)
    # Copies: the second pass zeroes the gradients of the first.
    pieces = [value.clone() for value in graded("pieces", *asked)]
    for one, other in zip(pieces, graded("whole", *asked), strict=True):
        # Both divide gradients, and what a bound's slope has lost to rounding, by the temperature.
        close = 1e-5 * max(1.0, 1 / temperature)
        torch.testing.assert_close(one, other, rtol=1e-4, atol=close * max(1.0, float(other.abs().max())))


def in_double(linear: nn.Linear, hidden: Tensor, entries: Tensor, targets: Tensor, temperature: float) -> list[Tensor]:
    """What `graded` asks for, spelt out."""
    assert linear.bias is not None
    leaves = [leaf.detach().double().requires_grad_() for leaf in (hidden, linear.weight, linear.bias)]
    logp_KV = torch.log_softmax(nn.functional.linear(*leaves) / temperature, dim=-1)
    logp, entropy = logp_KV[entries, targets], -(logp_KV.exp() * logp_KV).sum(-1)[entries]
    share = torch.linspace(-1, 2, len(targets), dtype=torch.float64)
    gradients = torch.autograd.grad((share * logp + share.flip(0).square() * entropy).sum(), leaves)
    return [logp.detach(), entropy.detach(), *gradients]


def test_pieces_are_no_further_from_double_precision_than_the_whole_at_a_low_temperature() -> None:
    # Logits of up to 60 at this temperature: less their log-sum, which is as large, entropies lose a digit and more.
    torch.manual_seed(0)
    errors = {"pieces": 0.0, "whole": 0.0}
    for _ in range(200):
        linear, hidden = nn.Linear(5, 11), 2 * torch.randn(6, 5)
        entries, targets = torch.randint(0, 6, (20,)), torch.randint(0, 11, (20,))
        exact = in_double(linear, hidden, entries, targets, 0.3)
        for score in errors:
            found = graded(score, Head(linear), hidden, entries, targets, 0.3, 60)
            differences = [float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, exact, strict=True)]
            errors[score] = max(errors[score], *differences)
    assert errors["pieces"] < 2 * errors["whole"] < 1e-4


@pytest.mark.parametrize(
    "config",
    [
        Gemma2Config(**SMALL, head_dim=8, final_logit_softcapping=2.0),
        CohereConfig(**SMALL, logit_scale=0.25),
        GraniteConfig(**SMALL, logits_scaling=3.0),
        GPT2Config(vocab_size=40, n_embd=16, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2),
    ],
    ids=lambda config: config.model_type,
)
def test_a_familys_bound_and_scale_are_found(config: object) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    head = find_head(model, IDS)
    assert head is not None
    with torch.no_grad():
        hidden = model.base_model(input_ids=IDS[None]).last_hidden_state[0]
        torch.testing.assert_close(head.logits(hidden), model(input_ids=IDS[None]).logits[0])


class Doubled(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


def test_a_head_that_is_not_known_is_not_guessed() -> None:
    model = tiny_qwen()
    assert find_head(model, IDS) is not None
    model.lm_head = Doubled(model.lm_head.in_features, model.lm_head.out_features, bias=False)
    assert find_head(model, IDS) is None, "another kind of layer"
    other = tiny_qwen()
    other.lm_head.register_forward_hook(lambda _module, _given, logits: logits + 1)
    assert find_head(other, IDS) is None, "a layer that does more than its weight says, found by measuring"


@pytest.mark.parametrize("lora", [False, True])
def test_a_policy_scores_a_branching_pack_alike_by_pieces(lora: bool) -> None:
    samples = [
        make_sample((1, 2, 3, 4, 5), (0, 1, 1, 0, 1), calls=(-1, 0, 0, -1, 1)),
        make_sample((1, 2, 7), (0, 0, 1), repeat=1, advantage=-1.0),
    ]
    weights = token_weights(samples, grpo, batch_totals(samples))
    (pack,) = build_packs(samples, weights, ["seer"], max_tokens=40)
    found = []
    for piece in (1, 1 << 24):
        torch.manual_seed(0)
        model = tiny_qwen()
        if lora:
            model = with_lora(model, rank=2, alpha=4.0, targets=["q_proj"])
        scorer = PackScorer(model, Accelerator(cpu=True), temperature=0.7, piece=piece)
        output = scorer.score(pack, entropy_gradient=True)
        (output.logp_E.sum() + 0.1 * output.entropy_E.sum()).backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        found.append([output.logp_E.detach(), output.entropy_E.detach(), *gradients])
    assert len(found[0]) == len(found[1]) > 2
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


MEASURE = """
import sys, torch
from ajet.train.memory import peak_memory_gib
from ajet.train.head import Head, score_pieces, score_whole
K, V, H = 256, 151_936, 32
head, hidden = Head(torch.nn.Linear(H, V, bias=False)), torch.randn(K, H, requires_grad=True)
entries, targets = torch.arange(K), torch.arange(K)
before = peak_memory_gib()
if sys.argv[1] == "pieces":
    logp, entropy = score_pieces(head, hidden, entries, targets, temperature=1.0, piece=V * 8)
else:
    logp, entropy = score_whole(head.logits(hidden), entries, targets, temperature=1.0, entropy_gradient=False)
logp.sum().backward()
print(1024 * (peak_memory_gib() - before))
"""


def test_the_logits_of_a_large_vocabulary_never_exist_whole(tmp_path: Path) -> None:
    peaks = {}
    # Else glibc keeps some of what is freed, now more, now less: pieces took 76 to 146 MiB, and take 63 so.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    for how in ("pieces", "whole"):
        command = [sys.executable, "-c", MEASURE, how]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        peaks[how] = float(done.stdout)
    one_copy, gradient = 256 * 151_936 * 4 / 2**20, 32 * 151_936 * 4 / 2**20
    assert peaks["whole"] > 2 * one_copy, "else this would not measure what it should"
    assert peaks["pieces"] < gradient + 0.7 * one_copy
