"""Whose loss a run on a Tinker server has: found out once, said, and kept with the run."""

from __future__ import annotations

import pytest
from tests.table_server import VOCABULARY, TableServer, cispo, cross_entropy, importance, ppo

from ajet.config.algorithm import AlgorithmConfig
from ajet.train.algorithms.rule import learning_rule
from ajet.train.tinker_dialect import Dialect

LOSSES = {"importance_sampling": importance, "ppo": ppo, "cispo": cispo}
CLIP, CISPO = AlgorithmConfig(), AlgorithmConfig(loss="cispo")


def dialect_of(server: TableServer, algorithm: AlgorithmConfig, said: list[str]) -> Dialect:
    rule = learning_rule(algorithm)
    return Dialect(server, rule, rank=1, dtype="float32", vocab_size=VOCABULARY, say=said.append)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("server", "algorithm", "name", "told"),
    [
        (TableServer(LOSSES), CLIP, "ppo", "the loss is the server's own ppo"),
        (TableServer(LOSSES), CISPO, "cispo", "the loss is the server's own cispo"),
        (TableServer({**LOSSES, "cispo": cross_entropy}), CISPO, None, "linearised: a probe found the server's cispo"),
        (TableServer(LOSSES), AlgorithmConfig(loss="gspo"), None, "linearised: no server's own"),
        (TableServer(LOSSES), AlgorithmConfig(kl_coef=0.1), None, "linearised: no server's own"),
        (TableServer(LOSSES, loss="linearised"), CLIP, None, "linearised, as tinker.loss=linearised says"),
    ],
)
def test_whose_loss_it_is_is_found_out_and_said_once(
    server: TableServer, algorithm: AlgorithmConfig, name: str | None, told: str
) -> None:
    said: list[str] = []
    dialect = dialect_of(server, algorithm, said)
    assert dialect.own_loss is None, "not before a probe"
    dialect.settle()
    dialect.settle()
    assert (dialect.own_loss and dialect.own_loss.name) == name
    assert len(said) == 1 and told in said[0]
    assert dialect.normalization == "token_sum"


def test_a_resumed_run_is_told_whose_loss_it_is_and_probes_only_another_loss() -> None:
    server, said = TableServer(LOSSES), list[str]()
    first = dialect_of(server, CLIP, said)
    first.settle()
    probed = server.num_steps
    same = dialect_of(server, CLIP, said)
    same.load_state_dict(first.state_dict())
    same.settle()
    assert server.num_steps == probed and said[0] == said[1]
    for other in (CISPO, AlgorithmConfig(clip_high=0.28)):
        dialect = dialect_of(server, other, said)
        dialect.load_state_dict(first.state_dict())
        assert dialect.own_loss is None
        dialect.settle()
        assert dialect.own_loss is not None and server.num_steps > probed
        probed = server.num_steps


def test_of_a_server_at_another_address_everything_is_found_out_anew() -> None:
    summing, averaging, said = (
        TableServer(LOSSES),
        TableServer({"importance_sampling": importance}, means=True),
        list[str](),
    )
    averaging.url = "http://another"
    first = dialect_of(summing, CLIP, said)
    first.settle()
    first.is_checked = True
    moved = dialect_of(averaging, CLIP, said)
    moved.load_state_dict(first.state_dict())
    moved.settle()
    assert (first.normalization, moved.normalization) == ("token_sum", "sequence_mean")
    assert first.own_loss is not None and moved.own_loss is None and not moved.is_checked
