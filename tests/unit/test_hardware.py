"""Which GPUs a rank sees."""

from __future__ import annotations

import pytest

from ajet.config.hardware import share_of_gpus


@pytest.mark.parametrize(("num_gpus", "num_ranks"), [(8, 8), (8, 4), (2, 2), (7, 2)])
def test_ranks_of_a_machine_see_gpus_of_their_own_and_as_many(num_gpus: int, num_ranks: int) -> None:
    gpus = [f"GPU-{i}" for i in range(num_gpus)]
    shares = [share_of_gpus(gpus, rank, num_ranks) for rank in range(num_ranks)]
    assert [len(share or []) for share in shares] == [num_gpus // num_ranks] * num_ranks
    seen = [gpu for share in shares for gpu in share or []]
    assert len(set(seen)) == len(seen) and set(seen) <= set(gpus)


@pytest.mark.parametrize(("num_gpus", "num_ranks"), [(0, 2), (1, 2), (8, 1)])
def test_one_process_and_too_few_gpus_are_left_as_they_are(num_gpus: int, num_ranks: int) -> None:
    assert all(share_of_gpus(["0"] * num_gpus, rank, num_ranks) is None for rank in range(num_ranks))
