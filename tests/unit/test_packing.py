"""Packs lose nothing: what they train is what the rows say, entry by entry, whatever the budget."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.factories import make_sample, samples_strategy

from ajet.config.hardware import PackCosts
from ajet.records import TrainingSample
from ajet.train.attention import ancestor_mask
from ajet.train.packing import Pack, build_packs, cost_of, shared_out, subtree_ends

TAGS = ("seer", "witch")


def path_to(node: int, pack: Pack) -> tuple[int, ...]:
    """The ids from the root to a node."""
    ids: list[int] = []
    while node >= 0:
        ids.append(int(pack.token_ids[node]))
        node = int(pack.parents[node])
    return tuple(reversed(ids))


@given(samples_strategy(), st.integers(1, 40))
def test_entries_have_the_context_token_and_weight_that_their_rows_have(
    samples: list[TrainingSample], max_tokens: int
) -> None:
    weights = [0.5 + i for i in range(len(samples))]
    wanted = Counter(
        (row.token_ids[:t], row.token_ids[t], row.logprobs[t], row.advantages[t], weight, TAGS.index(row.target_tag))
        for row, weight in zip(samples, weights, strict=True)
        for t, sampled in enumerate(row.loss_mask)
        if sampled
    )
    found: Counter[tuple[tuple[int, ...], int, float, float, float, int]] = Counter()
    for pack in build_packs(samples, weights, TAGS, max_tokens=max_tokens):
        for e, node in enumerate(pack.predictors):
            values = (float(pack.logprobs[e]), float(pack.advantages[e]), float(pack.weights[e]), int(pack.tags[e]))
            found[path_to(int(node), pack), int(pack.targets[e]), *values] += 1
    assert found == wanted


@given(samples_strategy(), st.integers(1, 40))
def test_the_mask_lets_a_token_see_its_path_from_the_root_in_order(
    samples: list[TrainingSample], max_tokens: int
) -> None:
    for pack in build_packs(samples, [1.0] * len(samples), TAGS, max_tokens=max_tokens):
        mask = ancestor_mask(torch.from_numpy(subtree_ends(pack.parents))).numpy()
        for node in range(len(pack.token_ids)):
            seen = np.flatnonzero(mask[node])
            assert tuple(pack.token_ids[seen]) == path_to(node, pack)
            assert pack.positions[seen].tolist() == list(range(len(seen)))


@given(samples_strategy())
def test_the_order_of_rows_changes_no_pack(samples: list[TrainingSample]) -> None:
    def sizes(rows: list[TrainingSample]) -> list[int]:
        return [len(pack.token_ids) for pack in build_packs(rows, [1.0] * len(rows), TAGS, max_tokens=12)]

    assert sizes(samples) == sizes(samples[::-1])


@pytest.mark.parametrize(("shared", "num_packs"), [(0, 2), (5, 2), (6, 1), (7, 1)])
def test_rows_are_joined_where_that_is_cheaper_than_repeating_their_prefix(shared: int, num_packs: int) -> None:
    # Two rows of 8 that share s tokens, a token at 1 and a pair at 1/8, at 1/16 where nothing branches: apart they cost
    # 2 (8 + 8^2 / 16) = 24, joined U + U^2 / 8 with U = 16 - s: 26.1 at s = 5 and 22.5 at s = 6.
    one = make_sample(range(8), (0,) * 7 + (1,))
    other = make_sample((*range(shared), *range(20, 28 - shared)), (0,) * 7 + (1,), repeat=1)
    packs = build_packs([one, other], [1.0, 1.0], TAGS, max_tokens=100, costs=PackCosts(pair=0.125, start=0.0))
    assert len(packs) == num_packs


def test_short_rows_that_share_nothing_still_save_the_cost_of_a_pass() -> None:
    # A row alone costs 2 + 2^2 / 16 = 2.25 and a pass; U joined tokens cost U + U^2 / 8: 6 at 4, 10.5 at 6, 16 at 8.
    rows = [make_sample((2 * i, 2 * i + 1), (0, 1), repeat=i) for i in range(6)]

    def sizes(pack_cost: float) -> list[int]:
        costs = PackCosts(pair=0.125, start=pack_cost)
        packs = build_packs(rows, [1.0] * 6, TAGS, max_tokens=100, costs=costs)
        return [len(pack.token_ids) for pack in packs]

    assert sizes(2.5) == [6, 6]
    assert sizes(0.0) == [2] * 6


@given(samples_strategy(max_rows=12), st.integers(1, 4), st.integers(1, 30))
def test_packs_are_shared_out_whole_and_by_their_cost(samples: list[TrainingSample], num: int, max_tokens: int) -> None:
    costs = PackCosts(pair=0.125, start=2.0)
    packs = build_packs(samples, [1.0] * len(samples), TAGS, max_tokens=max_tokens, costs=costs)
    shares = shared_out(packs, num, costs)
    place = {id(pack): i for i, pack in enumerate(packs)}
    places = [[place[id(pack)] for pack in share] for share in shares]
    assert sorted(i for share in places for i in share) == list(range(len(packs)))
    assert all(share == sorted(share) for share in places)
    dear = [2.0 + cost_of(len(pack.token_ids), costs, is_chain=pack.is_chain) for pack in packs]
    loads = [sum(dear[i] for i in share) for share in places]
    # No share has more than the least by more than its own cheapest pack.
    assert all(
        load - min(dear[i] for i in share) <= min(loads) for load, share in zip(loads, places, strict=True) if share
    )


def test_one_large_pack_weighs_as_much_as_several_small_ones() -> None:
    rows = [make_sample(range(40), (0,) * 39 + (1,))]
    rows += [make_sample((50 + i, *range(60, 69)), (0,) * 9 + (1,), repeat=i + 1) for i in range(4)]
    costs = PackCosts(pair=0.0, start=0.0)
    packs = build_packs(rows, [1.0] * 5, TAGS, max_tokens=1, costs=costs)
    # In turns the first share would have had 40 + 10 + 10 tokens of 80.
    assert [sum(len(pack.token_ids) for pack in share) for share in shared_out(packs, 2, costs)] == [40, 40]
