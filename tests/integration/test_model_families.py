"""Packed equals plain, for tiny random models of every family: branching where that is exact, plain rows elsewhere."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from tests.engine_contract import complete
from tests.factories import make_sample
from tests.flex_on_cpu import flex_on_cpu
from tests.model_families import VOCAB_SIZE, tiny_model

from ajet.config.algorithm import AlgorithmConfig
from ajet.engine.base import SamplingRequest
from ajet.engine.checkpoint import attention_implementation, load_causal_lm
from ajet.engine.families import TREE_FAMILIES
from ajet.engine.transformers import TransformersConfig
from ajet.engine.transformers_engine import TransformersEngine
from ajet.errors import ConfigError
from ajet.records import TrainingSample
from ajet.train.algorithms.rule import learning_rule
from ajet.train.attention import why_chains_only
from ajet.train.exactness import measured_why_chains_only
from ajet.train.packing import Pack, build_packs
from ajet.train.policy import TrainablePolicy
from ajet.train.scoring import PackScorer

CPU = torch.device("cpu")
STATEFUL = (
    "falcon_h1 falcon_mamba granitemoehybrid jamba mamba mamba2 minimax nemotron_h olmo_hybrid qwen3_5_moe_text "
    "qwen3_5_text qwen3_next recurrent_gemma rwkv"
)
BIASED_OR_SPARSE = "bart bert bloom deepseek_v4 doge hy_v4 llama4_text minimax_m3_vl_text mpt openai-gpt roberta"
CHAIN_FAMILIES = f"{STATEFUL} {BIASED_OR_SPARSE}".split()
OF_THEIR_OWN = "gemma2 gpt_oss gptj granite_swa granitemoe_swa mimo_v2_flash vaultgemma xglm"
WITHOUT_FLEX = f"aria_text falcon gpt2 gpt_bigcode olmoe persimmon stablelm {OF_THEIR_OWN}".split()
"""Of the families whose packs may branch, those whose attention is not torch's `sdpa`, or that transformers has no
FlexAttention for."""
SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("lfm2", {"layer_types": ["conv", "full_attention"] * 2}),
    ("falcon", {"head_dim": None, "alibi": True}),
]
"""Families of the list with a setting that takes them off it."""


def rows() -> list[tuple[int, ...]]:
    """Four rows of 18 to 25 ids that share 12 or 15, so windows of 6 end before and behind where they branch."""
    shared = tuple(3 + 5 * k % 60 for k in range(1, 13))
    branched = [shared + tuple(3 + (7 * i + k * k) % 60 for k in range(10 + i)) for i in (1, 2, 3)]
    return sorted([*branched, (*branched[0][:15], 9, 8, 7)])


def samples() -> list[TrainingSample]:
    return [
        make_sample(row, (0,) * 4 + (1,) * (len(row) - 4), repeat=i, advantage=(-1.0) ** i)
        for i, row in enumerate(rows())
    ]


def policy_of(model: Any) -> TrainablePolicy:
    return TrainablePolicy(
        model,
        tokenizer=None,
        accelerator=Accelerator(cpu=True),
        rule=learning_rule(AlgorithmConfig(learning_rate=1e-3)),
        temperature=1.0,
        total_steps=1,
        reference=None,
        recompute_layers=False,
        num_threads=None,
    )


def packs_of(policy: TrainablePolicy) -> list[Pack]:
    branches = policy.why_chains_only is None
    return build_packs(samples(), [1.0] * 4, ["seer"], max_tokens=999, branches=branches)


def packed(policy: TrainablePolicy) -> torch.Tensor:
    return torch.cat([policy.forward(pack).logp_E for pack in packs_of(policy)])


def plain(model: Any) -> torch.Tensor:
    """Row by row, the model left alone."""
    outputs = [model(input_ids=torch.tensor([row]), use_cache=False).logits[0, 3:-1] for row in rows()]
    logps = [torch.log_softmax(output, dim=-1) for output in outputs]
    return torch.cat(
        [logp.gather(1, torch.tensor(row[4:])[:, None])[:, 0] for logp, row in zip(logps, rows(), strict=True)]
    )


def largest_gap(policy: TrainablePolicy) -> float:
    with torch.no_grad():
        return float((packed(policy) - plain(policy.model)).abs().max())


@pytest.mark.parametrize("family", sorted(TREE_FAMILIES))
def test_a_branching_pack_has_the_log_probabilities_of_its_plain_rows(family: str) -> None:
    model = tiny_model(family)
    policy = policy_of(tiny_model(family, attention=attention_implementation(model.config)))
    assert policy.why_chains_only is None
    assert len(packs_of(policy)) == 1 and not packs_of(policy)[0].is_chain
    # Rounding, of log-probabilities down to -7: how much depends on the CPU, 1.4e-5 at most where it was seen.
    assert largest_gap(policy) < 3e-5
    # And a wrong context would have shown.
    (pack,) = packs_of(policy)
    as_one_text = replace(pack, parents=np.arange(-1, len(pack.parents) - 1))
    with torch.no_grad():
        assert float((policy.forward(as_one_text).logp_E - packed(policy)).abs().max()) > 0.1


@pytest.mark.parametrize("family", sorted(TREE_FAMILIES))
def test_so_it_has_by_blocks_where_a_family_has_flex_attention(family: str) -> None:
    model = tiny_model(family, attention=attention_implementation(tiny_model(family).config))
    (pack,) = build_packs(samples(), [1.0] * 4, ["seer"], max_tokens=999)
    with flex_on_cpu() as attention, torch.no_grad():
        scorer = PackScorer(model, Accelerator(cpu=True), temperature=1.0, blocks_from=0)
        assert (scorer.why_no_blocks is None) == (family not in WITHOUT_FLEX), scorer.why_no_blocks
        before = attention.num_calls
        gap = float((scorer.score(pack).logp_E - plain(model)).abs().max())
    assert (attention.num_calls > before) == (family not in WITHOUT_FLEX) and gap < 1e-5


@pytest.mark.parametrize("family", sorted(TREE_FAMILIES))
def test_the_attention_that_is_chosen_leaves_out_nothing_that_the_eager_one_does(family: str) -> None:
    chosen = tiny_model(family, attention=attention_implementation(tiny_model(family).config))
    eager = tiny_model(family, attention="eager")
    with torch.no_grad():
        assert float((plain(chosen) - plain(eager)).abs().max()) < 1e-5


@pytest.mark.parametrize("family", CHAIN_FAMILIES)
def test_families_that_cannot_branch_are_trained_as_plain_rows(family: str) -> None:
    policy = policy_of(tiny_model(family))
    assert policy.why_chains_only is not None and family in policy.why_chains_only
    assert all(pack.is_chain for pack in packs_of(policy))
    assert largest_gap(policy) < 2e-5


@pytest.mark.parametrize(("family", "settings"), SETTINGS)
def test_a_setting_that_forbids_branches_takes_a_family_off_the_list(family: str, settings: dict[str, Any]) -> None:
    policy = policy_of(tiny_model(family, **settings))
    assert family in TREE_FAMILIES and policy.why_chains_only is not None
    assert largest_gap(policy) < 2e-5
    (branching,) = build_packs(samples(), [1.0] * 4, ["seer"], max_tokens=999)
    with pytest.raises(ValueError, match=f"this pack branches, but {family}"):
        policy.forward(branching)


def test_a_family_that_nobody_has_read_is_trained_as_plain_rows() -> None:
    model = tiny_model("llama")
    model.config.model_type = "llama_of_tomorrow"
    assert why_chains_only(model) == (
        "llama_of_tomorrow is not among the models whose branching packs are known to be exact"
    )


class WithItsNeighbour(torch.nn.Module):
    """A layer that also gets the token before it in the pack, as a convolution would."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.inner(hidden + torch.nn.functional.pad(hidden, (0, 0, 1, 0))[:, :-1])
        return output


def test_a_layer_that_looks_at_its_neighbour_in_the_pack_is_found_by_measuring() -> None:
    model = tiny_model("llama")
    model.model.layers[0].mlp = WithItsNeighbour(model.model.layers[0].mlp)
    assert why_chains_only(model) is None
    assert "a branching pack of llama is off by" in str(measured_why_chains_only(model, CPU))
    assert largest_gap(policy_of(model)) < 1e-5


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_oss", "qwen3_moe", "qwen3_next"])
def test_measuring_is_sane_in_bfloat16(family: str) -> None:
    model = tiny_model(family).bfloat16()
    assert (measured_why_chains_only(model, CPU) is None) == (family != "qwen3_next")


@pytest.mark.parametrize("family", ["cpmant", "xlm"])
def test_models_that_see_what_comes_behind_are_refused(family: str) -> None:
    with pytest.raises(ConfigError, match=f"{family} cannot be trained: what it says at a token changes by"):
        policy_of(tiny_model(family))


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("llama", {}),
        ("qwen2", {}),
        ("gemma2", {}),
        ("gpt_oss", {}),
        ("qwen3_moe", {}),
        ("lfm2", {"layer_types": ["conv", "full_attention"] * 2}),
        ("qwen3_next", {}),
    ],
)
def test_packed_gradients_are_those_of_plain_rows(family: str, settings: dict[str, Any]) -> None:
    implementation = attention_implementation(tiny_model(family, **settings).config)
    policy = policy_of(tiny_model(family, attention=implementation, **settings))

    def gradient(logps: torch.Tensor) -> torch.Tensor:
        policy.model.zero_grad()
        (logps * torch.linspace(-1, 1, len(logps))).sum().backward()
        return torch.cat([p.grad.flatten() for p in policy.model.parameters() if p.grad is not None])

    one, other = gradient(packed(policy)), gradient(plain(policy.model))
    assert float((one - other).norm() / other.norm()) < 1e-5


def test_packs_without_branches_join_rows_only_with_their_own_beginnings() -> None:
    whole = rows()[0]
    some = [make_sample(row, (0,) * 4 + (1,) * (len(row) - 4)) for row in (whole, whole[:9], *rows()[1:])]
    packs = build_packs(some, [1.0] * 5, ["seer"], max_tokens=999, branches=False)
    assert [len(pack.token_ids) for pack in packs] == [len(row) for row in rows()]
    assert all(pack.is_chain for pack in packs)
    assert len(packs[0].targets) == len(whole) - 4 + 5
    assert all(a.num_row_tokens >= len(a.token_ids) for a, _ in pairwise(packs))


def test_rotary_angles_that_depend_on_a_texts_length_bound_the_context(tmp_path: Path) -> None:
    factors = [1.0] * 4
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": factors, "long_factor": factors}
    config: dict[str, Any] = {"rope_parameters": rope | {"original_max_position_embeddings": 32, "factor": 4.0}}
    tiny_model("phi3", original_max_position_embeddings=32, **config).save_pretrained(tmp_path)
    assert load_causal_lm(str(tmp_path), torch.float32, max_context=32).config.vocab_size == VOCAB_SIZE
    with pytest.raises(ConfigError, match=r"max_context=33 is more than the 32 tokens .* longrope .* phi3.*=32$"):
        load_causal_lm(str(tmp_path), torch.float32, max_context=33)


def test_a_soft_cap_on_attention_is_computed_whoever_loads_the_model(tmp_path: Path) -> None:
    tiny_model("gemma2", attn_logit_softcapping=1.0).save_pretrained(tmp_path)
    loaded = load_causal_lm(str(tmp_path), torch.float32, max_context=64)
    eager, sdpa = (tiny_model("gemma2", attn_logit_softcapping=1.0, attention=name) for name in ("eager", "sdpa"))
    with torch.no_grad():
        assert math.isclose(float(plain(loaded).sum()), float(plain(eager).sum()), rel_tol=1e-6)
        assert float((plain(sdpa) - plain(eager)).abs().max()) > 0.01


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        *[(family, {}) for family in ("gemma2", "gemma3_text", "gpt2", "gpt_oss", "mistral", "qwen2", "deepseek_v3")],
        *[
            (family, {})
            for family in ("bart", "bloom", "llama4_text", "mamba", "qwen3_5_text", "qwen3_next", "roberta")
        ],
        *SETTINGS,
    ],
)
def test_the_transformers_engine_samples_with_the_probabilities_that_are_trained(
    family: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    tiny_model(family, **settings).save_pretrained(tmp_path)
    engine = TransformersEngine(TransformersConfig(max_concurrency=8), str(tmp_path), max_context=64)
    # Of different lengths, so that they lie at different places in one cache.
    requests = [
        SamplingRequest(
            prompt_ids=tuple(3 + (5 * k + n) % 60 for k in range(n)), max_tokens=8 + n, temperature=1.0, seed=n
        )
        for n in (3, 8, 14)
    ]
    model = load_causal_lm(str(tmp_path), torch.float32, max_context=64).eval()
    for request, completion in zip(requests, complete(engine, *requests), strict=True):
        text = torch.tensor([[*request.prompt_ids, *completion.token_ids]])
        with torch.no_grad():
            logp = torch.log_softmax(model(input_ids=text, use_cache=False).logits[0, :-1], dim=-1)
        wanted = logp.gather(1, text[0, 1:, None])[len(request.prompt_ids) - 1 :, 0]
        # States that are carried on add rounding up, by as much as the CPU has it: 4.4e-5 at most where it was seen.
        assert completion.logprobs == pytest.approx(wanted.tolist(), abs=1e-4)


def test_the_page_on_models_lists_the_families_and_how_they_are_packed() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "models.md").read_text()
    branching, plain_rows = (line for line in page.splitlines() if line.startswith(("| share", "| one by one")))
    assert set(re.findall(r"`([\w-]+)`", branching)) == TREE_FAMILIES
    assert set(re.findall(r"`([\w-]+)`", plain_rows)) == set(CHAIN_FAMILIES)
