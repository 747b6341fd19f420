"""Log-probabilities that are asked for ahead are those that would have been asked for, and never of other weights."""

from __future__ import annotations

import pytest
import torch
from tests.factories import make_sample
from tests.table_server import TableServer, importance
from tinker import types

from ajet.train.packing import Pack, build_packs
from ajet.train.tinker_remote import RemoteAdapters
from ajet.train.tinker_rows import learning_row

ADAM = types.AdamParams(learning_rate=1e-2)


def chains(*rows: tuple[int, ...]) -> list[Pack]:
    samples = [make_sample(ids, (0, *(1,) * (len(ids) - 1))) for ids in rows]
    return build_packs(samples, [1.0] * len(rows), ("seer",), max_tokens=1, branches=False)


@pytest.fixture
def server() -> TableServer:
    return TableServer({"importance_sampling": importance})


@pytest.fixture
def adapters(server: TableServer) -> RemoteAdapters:
    return RemoteAdapters(server, rank=1, seed=0)  # type: ignore[arg-type]


def learn(adapters: RemoteAdapters, packs: list[Pack]) -> list[torch.Tensor]:
    rows = [learning_row(pack, -torch.ones(len(pack.targets)), torch.ones(len(pack.targets)), 1.0) for pack in packs]
    return adapters.learn(packs, rows, ADAM, loss="importance_sampling")


def test_what_was_foreseen_is_not_asked_for_again(server: TableServer, adapters: RemoteAdapters) -> None:
    both, other = chains((1, 2, 3), (1, 4)), chains((5, 6))
    first = adapters.logps(both)
    learn(adapters, both)
    adapters.foresee(both[:1])
    adapters.foresee(both)
    asked = server.num_forwards
    later = adapters.logps([*both, *other])
    assert server.num_forwards == asked + 1, "the one row that nobody foresaw"
    assert [len(row) for row in later] == [len(pack.targets) for pack in [*both, *other]]
    assert not any(torch.equal(before, after) for before, after in zip(first, later, strict=False))


def test_what_was_asked_for_before_a_step_is_not_taken_for_what_is_so_after_it(adapters: RemoteAdapters) -> None:
    packs = chains((1, 2, 3), (1, 4))
    before = adapters.logps(packs)
    adapters.foresee(packs)
    told = learn(adapters, packs)
    assert all(map(torch.equal, told, before)), "a step tells what was so before it"
    assert not any(map(torch.equal, adapters.logps(packs), before))


def test_of_adapters_that_are_not_made_yet_nothing_is_foreseen(server: TableServer, adapters: RemoteAdapters) -> None:
    adapters.foresee(chains((1, 2, 3)))
    assert server.num_models == server.num_forwards == 0
