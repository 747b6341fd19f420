"""Calls become rows and rows a tree without any token, mask or weight changing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.factories import make_call, make_episode

from ajet.records import Call
from ajet.train.timeline import build_samples, build_tree

ids = st.lists(st.integers(0, 4), min_size=1, max_size=5)


def test_a_call_that_extends_another_joins_its_row() -> None:
    first = make_call((5, 6), (8, 2), logprob=-0.5)
    second = make_call((5, 6, 8, 2, 9), (4,), logprob=-0.25, index=1)
    (row,) = build_samples(make_episode(0, {"P1": 1.0}, first, second), {0: (0.7, 0.5), 1: (-1.0,)})
    assert row.token_ids == (5, 6, 8, 2, 9, 4)
    assert row.loss_mask == (False, False, True, True, False, True)
    assert row.logprobs == (0.0, 0.0, -0.5, -0.5, 0.0, -0.25)
    assert row.advantages == (0.0, 0.0, 0.7, 0.5, 0.0, -1.0)
    assert row.calls == (-1, -1, 0, 0, -1, 1)


def test_a_call_with_another_history_starts_a_row() -> None:
    rows = build_samples(make_episode(0, {"P1": 1.0}, make_call((5, 6), (8,)), make_call((5, 7), (8,))), {0: (1.0,)})
    assert [row.token_ids for row in rows] == [(5, 6, 8), (5, 7, 8)]


def test_one_agents_call_never_joins_anothers_row() -> None:
    first, second = make_call((5,), (6,)), make_call((5, 6, 7), (8,), agent="P2", tag="witch", index=1)
    rows = build_samples(make_episode(0, {"P1": 1.0, "P2": 0.0}, first, second), {0: (1.0,), 1: (-1.0,)})
    assert [(row.target_tag, row.advantages[-1]) for row in rows] == [("seer", 1.0), ("witch", -1.0)]


def test_calls_of_agents_that_are_not_trained_make_no_rows() -> None:
    assert build_samples(make_episode(0, {}, make_call((), (), trained=False)), {}) == []


@st.composite
def conversations(draw: st.DrawFn) -> list[Call]:
    calls: list[Call] = []
    for index in range(draw(st.integers(1, 6))):
        agent = draw(st.sampled_from(["P1", "P2"]))
        earlier = [call for call in calls if call.agent_name == agent]
        prompt = tuple(draw(ids))
        extends: bool = draw(st.booleans())
        if earlier and extends:
            last = draw(st.sampled_from(earlier))
            prompt = last.prompt_ids + last.sampled_ids + prompt
        calls.append(make_call(prompt, draw(ids), agent=agent, index=index))
    return calls


@given(conversations())
def test_every_sampled_token_stands_in_exactly_one_row_after_its_own_prompt(calls: list[Call]) -> None:
    credit = {call.index: (1.0,) * len(call.sampled_ids) for call in calls}
    rows = build_samples(make_episode(0, {"P1": 1.0, "P2": 1.0}, *calls), credit)
    assert sum(sum(row.loss_mask) for row in rows) == sum(len(call.sampled_ids) for call in calls)
    for call in calls:
        whole, start = call.prompt_ids + call.sampled_ids, len(call.prompt_ids)
        assert any(
            row.agent_name == call.agent_name
            and row.token_ids[: len(whole)] == whole
            and all(row.loss_mask[start : len(whole)])
            for row in rows
        )


@given(st.lists(ids, max_size=6))
def test_rows_come_out_of_the_tree_as_they_went_in(rows: list[list[int]]) -> None:
    tree = build_tree(rows)
    assert [[tree.token_ids[node] for node in nodes] for nodes in tree.row_nodes] == rows
    assert len(tree.token_ids) == len({tuple(row[:n]) for row in rows for n in range(1, len(row) + 1)})
    assert all(parent < node for node, parent in enumerate(tree.parents))
    assert all(
        depth == (0 if parent < 0 else tree.depths[parent] + 1)
        for depth, parent in zip(tree.depths, tree.parents, strict=True)
    )
