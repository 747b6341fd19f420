"""What a Tinker server is sent: rows whose importance-sampling loss has the gradient of any other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from tests.factories import make_sample, samples_strategy

from ajet.records import TrainingSample
from ajet.train.packing import Pack, build_packs
from ajet.train.tinker_rows import SEQUENCE_MEAN, TOKEN_SUM, learning_row, row_logps, scales, scoring_row

TAGS = ("seer", "witch")


def packs(samples: list[TrainingSample]) -> list[Pack]:
    return build_packs(samples, [1.0] * len(samples), TAGS, max_tokens=40, branches=False)


def values(row: object, name: str) -> np.ndarray:
    return np.asarray(row.loss_fn_inputs[name].data)  # type: ignore[attr-defined]


@given(samples_strategy())
def test_the_gradient_that_comes_of_a_row_is_the_slope_that_it_was_made_of(samples: list[TrainingSample]) -> None:
    rows = packs(samples)
    for pack, scale in zip(rows, scales(rows, SEQUENCE_MEAN), strict=True):
        rng = np.random.default_rng(len(pack.token_ids))
        logp_of_position = torch.from_numpy(rng.normal(-1, 0.5, len(pack.token_ids) - 1))
        slope_E = torch.from_numpy(rng.normal(size=len(pack.targets)))
        row = learning_row(pack, logp_of_position[pack.predictors], slope_E, scale)
        assert values(row, "target_tokens").tolist() == pack.token_ids[1:].tolist()
        logp = logp_of_position.clone().requires_grad_()
        ratios = torch.exp(logp - torch.from_numpy(values(row, "logprobs")))
        loss = -(ratios * torch.from_numpy(values(row, "advantages"))).sum()
        # As the server adds up: a mean over sequences of means over positions.
        (loss / len(logp) / len(rows)).backward()
        assert logp.grad is not None
        expected = torch.zeros(len(logp), dtype=torch.float64).index_add(0, torch.from_numpy(pack.predictors), slope_E)
        torch.testing.assert_close(logp.grad, expected, atol=1e-5, rtol=1e-5)


def test_token_sums_need_no_scale_and_means_that_of_all_rows_of_a_step() -> None:
    rows = packs([make_sample((1, 2, 3), (0, 0, 1)), make_sample((4, 2, 3, 5, 6), (0, 0, 1, 1, 1))])
    assert scales(rows, TOKEN_SUM) == [1.0, 1.0]
    assert scales(rows, SEQUENCE_MEAN) == [len(row.token_ids[1:]) * 2 for row in rows]


def test_an_answer_is_read_at_the_entries_and_too_short_a_one_refused() -> None:
    (pack,) = packs([make_sample((4, 2, 3, 5), (0, 0, 1, 1))])
    assert set(scoring_row(pack).loss_fn_inputs) == {"target_tokens", "weights"}

    class Answer:
        def __init__(self, *logps: float) -> None:
            self.loss_fn_outputs = [{"logprobs": torch.tensor(logps)}]

    (row,) = row_logps(Answer(-1.0, -2.0, -3.0), [len(pack.token_ids)])
    assert row[pack.predictors].tolist() == [-2.0, -3.0]
    with pytest.raises(ValueError, match="2 log-probabilities for a row of 4 tokens"):
        row_logps(Answer(-1.0, -2.0), [4])
    with pytest.raises(ValueError, match="1 rows instead of 2"):
        row_logps(Answer(-1.0, -2.0, -3.0), [4, 4])
