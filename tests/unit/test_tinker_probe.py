"""What a Tinker server does with losses is told apart by what its weights do: here the weights are a table."""

from __future__ import annotations

from typing import Any

import pytest
from tests.table_server import (
    VOCABULARY,
    Loss,
    TableServer,
    cispo,
    cispo_by_its_own_bounds,
    clipped_both_ways,
    cross_entropy,
    importance,
    ppo,
    reinforce,
)

from ajet.config.algorithm import AlgorithmConfig
from ajet.errors import EngineError
from ajet.train.algorithms.rule import learning_rule
from ajet.train.tinker_losses import server_loss
from ajet.train.tinker_probe import has_loss, measured_normalization, pushes

CLIP = AlgorithmConfig(clip_low=0.2, clip_high=0.28)
CISPO = AlgorithmConfig(loss="cispo", loss_args={"cap": 3.0})


def finds(server: TableServer, algorithm: AlgorithmConfig) -> bool:
    loss = server_loss(algorithm)
    assert loss is not None
    return has_loss(server, loss, learning_rule(algorithm), rank=1, vocab_size=VOCABULARY)  # type: ignore[arg-type]


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


@pytest.mark.parametrize("means", [False, True])
@pytest.mark.parametrize(
    ("loss", "fits_clip", "fits_cispo"),
    [
        (ppo, True, False),
        (cispo, False, True),
        (cispo_by_its_own_bounds, False, False),
        (cross_entropy, False, False),
        (importance, False, False),
        (reinforce, False, False),
        (clipped_both_ways, False, False),
        (None, False, False),
    ],
)
def test_only_a_loss_that_is_the_run_s_is_taken_for_it_whatever_its_name(
    loss: Loss | None, fits_clip: bool, fits_cispo: bool, means: bool
) -> None:
    server = TableServer({} if loss is None else {"ppo": loss, "cispo": loss}, means=means)
    assert finds(server, CLIP) is fits_clip
    assert finds(server, CISPO) is fits_cispo
    assert server.num_models == 0


@pytest.mark.parametrize("cap", [0.5, 1.0, 5.0])
def test_a_cap_is_found_wherever_it_is(cap: float) -> None:
    algorithm = AlgorithmConfig(loss="cispo", loss_args={"cap": cap})
    assert finds(TableServer({"cispo": cispo}), algorithm)
    assert not finds(TableServer({"cispo": importance}), algorithm)


def test_a_probe_is_made_of_the_gradients_of_the_run_s_loss() -> None:
    def told(algorithm: AlgorithmConfig) -> list[tuple[Any, ...]]:
        loss = server_loss(algorithm)
        assert loss is not None
        given = pushes(loss, learning_rule(algorithm))
        return [(each.ratio, each.advantage, pytest.approx(each.against, rel=1e-5), each.way) for each in given]

    assert told(AlgorithmConfig(clip_low=0.5, clip_high=1.0)) == [
        (4.0, 1.0, 0.0, 0),  # clipped: nothing may move
        (4.0, -1.0, 4 / 1.25, -1),
        (4.0, -1.0, 4 * 1.25, 1),
        (0.25, 1.0, -0.25 / 1.25, 1),
        (0.25, 1.0, -0.25 * 1.25, -1),
        (0.25, -1.0, 0.0, 0),
    ]
    assert told(CISPO)[:4] == [
        (6.0, 1.0, -3 / 1.25, 1),  # of a ratio of 6 only the cap counts
        (6.0, 1.0, -3 * 1.25, -1),
        (6.0, -1.0, 3 / 1.25, -1),
        (6.0, -1.0, 3 * 1.25, 1),
    ]


@pytest.mark.parametrize(
    ("algorithm", "name", "settings"),
    [
        (CLIP, "ppo", {"clip_low_threshold": 0.8, "clip_high_threshold": 1.28}),
        (CISPO, "cispo", {"clip_low_threshold": 0.0, "clip_high_threshold": 3.0}),
        (AlgorithmConfig(loss="cispo"), "cispo", {"clip_low_threshold": 0.0, "clip_high_threshold": 5.0}),
    ],
)
def test_what_a_server_is_asked_for_is_the_run_s_loss(
    algorithm: AlgorithmConfig, name: str, settings: dict[str, float]
) -> None:
    loss = server_loss(algorithm)
    assert loss is not None and (loss.name, loss.settings) == (name, settings)


@pytest.mark.parametrize(
    "algorithm",
    [
        AlgorithmConfig(loss="gspo"),
        AlgorithmConfig(loss="reinforce"),
        AlgorithmConfig(loss="my_file.py->clip"),
        AlgorithmConfig(kl_coef=0.1),
        AlgorithmConfig(loss="cispo", correction_level="token", tis_cap=2.0),
        AlgorithmConfig(loss="cispo", off_policy_threshold=0.5),
    ],
)
def test_no_other_loss_and_none_that_anything_surrounds_is_a_server_s(algorithm: AlgorithmConfig) -> None:
    assert server_loss(algorithm) is None
