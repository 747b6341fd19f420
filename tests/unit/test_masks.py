"""Tokens that were sampled under grammars are scored under the same masks: numbers, gradients, entropies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.factories import TASK, make_call, make_episode, make_sample, tiny_qwen
from torch import Tensor, nn

from ajet.records import EpisodeGroup
from ajet.train.head import Allowed, Head, score_pieces, score_whole
from ajet.train.masks import FREE, RowMasks, row_masks
from ajet.train.packing import build_packs
from ajet.train.scoring import PackScorer, predicting
from ajet.train.timeline import build_samples

VOCAB_SIZE = 40
"""More than fit into one word of a mask."""


def words(*allowed: Sequence[int]) -> NDArray[np.int32]:
    """Masks of `VOCAB_SIZE` ids, a row each."""
    bits = np.zeros((len(allowed), 64), np.uint8)
    for row, ids in enumerate(allowed):
        bits[row, list(ids)] = 1
    return np.packbits(bits, axis=1, bitorder="little").view(np.int32)


def by_hand(z_V: Tensor, target: int, allowed: Sequence[int] | None) -> tuple[Tensor, Tensor]:
    """log pi(target) and the entropy of pi over the allowed ids alone."""
    ids = list(range(len(z_V))) if allowed is None else list(allowed)
    logp = torch.log_softmax(z_V[ids], dim=-1)
    return logp[ids.index(target)], -(logp.exp() * logp).sum()


def test_a_mask_leaves_the_distribution_over_the_ids_that_are_allowed() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, 3.0]], requires_grad=True)
    allowed = Allowed(torch.from_numpy(words([0, 2])), torch.tensor([0]))
    target = torch.tensor([2])
    logp, entropy = score_whole(
        logits, torch.tensor([0]), target, temperature=2.0, entropy_gradient=True, allowed=allowed
    )
    # e^1 against e^0: 0.7311 and 0.2689.
    assert logp.exp().tolist() == pytest.approx([0.7311], abs=1e-4)
    assert entropy.tolist() == pytest.approx([0.5823], abs=1e-4)
    (logp + entropy).sum().backward()
    assert logits.grad is not None and logits.grad[0, [1, 3]].tolist() == [0.0, 0.0]


@hypothesis.settings(deadline=None, max_examples=40)
@hypothesis.given(
    st.integers(0, 1000), st.sampled_from([0.05, 1.0, 1.7]), st.sampled_from([None, 3.0]), st.integers(1, 200)
)
def test_pieces_and_the_whole_give_what_is_reckoned_over_allowed_ids_alone(
    seed: int, temperature: float, cap: float | None, piece: int
) -> None:
    torch.manual_seed(seed)
    head, hidden = Head(nn.Linear(5, VOCAB_SIZE), cap=cap), 2 * torch.randn(4, 5)
    rng = np.random.default_rng(seed)
    sets = [sorted(rng.choice(VOCAB_SIZE, int(rng.integers(1, 9)), replace=False).tolist()) for _ in range(3)]
    of_rows = [0, FREE, 2, 1]
    entries = torch.from_numpy(rng.integers(0, 4, 7))
    choices = [range(VOCAB_SIZE) if of_rows[k] == FREE else sets[of_rows[k]] for k in entries.tolist()]
    targets = [int(rng.choice(ids)) for ids in choices]
    share = torch.linspace(-1, 2, 7)

    def graded(logp: Tensor, entropy: Tensor, leaf: Tensor) -> list[Tensor]:
        gradients = torch.autograd.grad((share * logp + share.flip(0) * entropy).sum(), [leaf, head.linear.weight])
        return [logp.detach(), entropy.detach(), *gradients]

    def asked(name: str) -> list[Tensor]:
        leaf = hidden.clone().requires_grad_()
        given: dict[str, Any] = {"temperature": temperature}
        given["allowed"] = Allowed(torch.from_numpy(words(*sets)), torch.tensor(of_rows))
        if name == "pieces":
            scored = score_pieces(head, leaf, entries, torch.tensor(targets), piece=piece, **given)
        else:
            logits = head.logits(leaf)
            scored = score_whole(logits, entries, torch.tensor(targets), entropy_gradient=True, **given)
        return graded(*scored, leaf)

    leaf = hidden.clone().requires_grad_()
    z = head.logits(leaf) / temperature
    pairs = [
        by_hand(z[k], target, None if of_rows[k] == FREE else sets[of_rows[k]])
        for k, target in zip(entries.tolist(), targets, strict=True)
    ]
    expected = graded(torch.stack([logp for logp, _ in pairs]), torch.stack([e for _, e in pairs]), leaf)
    for name in ("pieces", "whole"):
        for one, other in zip(asked(name), expected, strict=True):
            close = 1e-5 * max(1.0, float(other.abs().max()), 1 / temperature)
            torch.testing.assert_close(one, other, rtol=1e-4, atol=close)


SETS = ([7, 9, 35], [7, 11], [3, 39])
ROWS = [
    make_sample((5, 6, 7, 39), (0, 0, 1, 1), advantage=0.7),
    make_sample((5, 6, 7, 3), (0, 0, 1, 1), advantage=-1.1, repeat=1),
    make_sample((5, 6, 7, 3, 8), (0, 0, 1, 1, 1), advantage=0.4, repeat=2),
]
"""Three replies to one prompt that begin alike, under two grammars and none."""
MASKS = RowMasks(words=words(*SETS), of_rows=(np.array([0, 2]), np.array([1, 2]), np.array([FREE, FREE, FREE])))


def test_entries_of_one_node_share_its_distribution_unless_other_ids_were_allowed() -> None:
    (pack,) = build_packs(ROWS, [1.0] * 3, ["seer"], max_tokens=100, masks=MASKS)
    assert pack.predictors.tolist().count(1) == 3, "the prompt's last token predicts the first of each reply"
    distinct, entries, allowed = predicting(pack, torch.device("cpu"))
    # Node 1 under three masks, node 2 under one and freely, node 3 freely.
    assert sorted(distinct.tolist()) == [1, 1, 1, 2, 2, 3]
    assert distinct[entries].tolist() == pack.predictors.tolist()
    assert allowed is not None


@pytest.mark.parametrize("max_tokens", [100, 1])
@pytest.mark.parametrize("piece", [None, 3 * VOCAB_SIZE])
def test_a_packs_gradient_is_that_of_rows_whose_masks_are_applied_in_plain_torch(
    max_tokens: int, piece: int | None
) -> None:
    model = tiny_qwen(vocab_size=VOCAB_SIZE)
    expected = torch.zeros(())
    values = []
    for row, numbers in zip(ROWS, MASKS.of_rows, strict=True):
        logits = model(input_ids=torch.tensor([row.token_ids])).logits[0]
        sampled = [t for t, masked in enumerate(row.loss_mask) if masked]
        for t, number in zip(sampled, numbers.tolist(), strict=True):
            allowed = None if number == FREE else SETS[number]
            logp, entropy = by_hand(logits[t - 1] / 0.7, row.token_ids[t], allowed)
            expected = expected + row.advantages[t] * logp
            values.append((logp.item(), entropy.item()))
    gradients = torch.autograd.grad(expected, list(model.parameters()))
    scorer = PackScorer(model, Accelerator(cpu=True), temperature=0.7, piece=piece)
    total, found = torch.zeros(()), []
    for pack in build_packs(ROWS, [1.0] * 3, ["seer"], max_tokens=max_tokens, masks=MASKS):
        output = scorer.score(pack)
        total = total + (torch.from_numpy(pack.advantages).float() * output.logp_E).sum()
        found += list(zip(output.logp_E.tolist(), output.entropy_E.tolist(), strict=True))
    assert sorted(found) == [pytest.approx(pair, abs=1e-5) for pair in sorted(values)]
    for one, other in zip(torch.autograd.grad(total, list(model.parameters())), gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_masks_of_replies_are_found_by_call_and_each_distinct_one_is_kept_once() -> None:
    asked = []

    def reply_masks(grammar: str, ids: Sequence[int]) -> NDArray[np.int32]:
        asked.append((grammar, tuple(ids)))
        return words(*({"a": [7, 8], "b": [9]}[grammar] for _ in ids))

    calls = [
        replace(make_call((5,), (7, 8)), grammar="a"),
        make_call((5, 7, 8, 6), (3,), index=1),
        replace(make_call((5, 7, 8, 6, 3, 6), (9,), index=2), grammar="b"),
    ]
    episode = make_episode(0, {"P1": 1.0}, *calls)
    rows = build_samples(episode, {0: (1.0, 1.0), 1: (1.0,), 2: (1.0,)})
    other = make_sample((5, 6), (0, 1), repeat=1, calls=(-1, 0))
    groups = [EpisodeGroup(task=TASK, episodes=(episode, make_episode(1, {"P1": 0.0}, make_call((5,), (6,)))))]
    masks = row_masks([*rows, other], groups, reply_masks)
    assert asked == [("a", (7, 8)), ("b", (9,))]
    assert [numbers.tolist() for numbers in masks.of_rows] == [[0, 0, FREE, 1], [FREE]]
    assert masks.words.tolist() == words([7, 8], [9]).tolist()
    both, free = masks.of([1, 0]), masks.of([1])
    assert free is None
    assert both is not None and both.of_entries.tolist() == [FREE, 0, 0, FREE, 1]
