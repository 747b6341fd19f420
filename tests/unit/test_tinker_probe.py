"""What a Tinker server does with losses is told apart by what its weights do: here the weights are a table."""

from __future__ import annotations

import pytest
from tests.table_server import VOCABULARY, Loss, TableServer, clipped_both_ways, cross_entropy, importance, ppo

from ajet.errors import EngineError
from ajet.train.tinker_probe import has_ppo, measured_normalization


@pytest.mark.parametrize("means", [False, True])
def test_how_losses_are_added_up_is_found_out_and_the_probe_leaves_nothing(means: bool) -> None:
    server = TableServer({"importance_sampling": importance}, means=means)
    expected = "sequence_mean" if means else "token_sum"
    assert measured_normalization(server, rank=1, vocab_size=VOCABULARY) == expected  # type: ignore[arg-type]
    assert server.num_models == 0


def test_a_server_that_does_not_heed_advantages_is_refused() -> None:
    server = TableServer({"importance_sampling": cross_entropy})
    with pytest.raises(EngineError, match=r"adds up losses in a way that is not known"):
        measured_normalization(server, rank=1, vocab_size=VOCABULARY)  # type: ignore[arg-type]
    assert server.num_models == 0


@pytest.mark.parametrize(
    ("losses", "found"),
    [
        ({"ppo": ppo}, True),
        ({"ppo": cross_entropy}, False),
        ({"ppo": importance}, False),
        ({"ppo": clipped_both_ways}, False),
        ({}, False),
    ],
    ids=["PPO", "cross-entropy", "without a clip", "a clip that also holds the way back", "refused"],
)
@pytest.mark.parametrize("means", [False, True])
def test_only_a_ppo_that_is_ppo_is_taken_for_one(losses: dict[str, Loss], found: bool, means: bool) -> None:
    server = TableServer(losses, means=means)
    assert has_ppo(server, rank=1, vocab_size=VOCABULARY) is found  # type: ignore[arg-type]
    assert server.num_models == 0
