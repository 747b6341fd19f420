"""Packs that are plain rows -> what a Tinker server is sent, and what it answers -> values at the packs' entries.

The API has no masks: a position without an advantage teaches nothing. Any loss that is a function of log-probabilities
is sent as the one that all servers have, importance sampling: with the log-probabilities as they are now for those
sampled with, each ratio is 1, and the gradient of -ratio * A is that of the loss where A = -dloss/dlogp.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tinker import types
from torch import Tensor

from ajet.train.packing import Pack

TOKEN_SUM, SEQUENCE_MEAN = "token_sum", "sequence_mean"


def scoring_row(pack: Pack) -> types.Datum:
    """A row whose log-probabilities are asked for, and nothing else."""
    _, targets = _shifted(pack)
    return _datum(pack, weights=np.zeros(len(targets), np.float32))


def learning_row(pack: Pack, logp_E: Tensor, slope_E: Tensor, scale: float) -> types.Datum:
    """A row with the gradient of any loss.

    Args:
        pack: a chain.
        logp_E: log-probabilities of its entries now.
        slope_E: derivative of the loss by each of them.
        scale: what the server divides by, of this row (`scales`).
    """
    return _policy_row(pack, -slope_E.double().numpy() * scale, logp_E.double().numpy())


def has_single_entries(pack: Pack) -> bool:
    """Whether no two entries have one token, so that each position of a row has one loss."""
    return len(np.unique(pack.predictors)) == len(pack.predictors)


def own_loss_row(pack: Pack, scale: float) -> types.Datum:
    """A row for a loss that the server has itself: weighted advantages, and what was sampled with.

    Args:
        pack: a chain, `has_single_entries`.
        scale: as for `learning_row`. A weight times a surrogate is the surrogate of the advantage times the weight.
    """
    return _policy_row(pack, pack.weights * pack.advantages * scale, pack.logprobs)


def scales(packs: Sequence[Pack], normalization: str) -> list[float]:
    """What makes up for how a server adds up, for each row of one optimizer step."""
    if normalization == TOKEN_SUM:
        return [1.0] * len(packs)
    return [float((len(pack.token_ids) - 1) * len(packs)) for pack in packs]


def row_logps(answer: Any, lengths: Sequence[int]) -> list[NDArray[np.float32]]:
    """The log-probabilities of each row's tokens but the first, as a server's answer has them.

    Raises:
        ValueError: there are not as many as were asked for.
    """
    outputs = answer.loss_fn_outputs
    if len(outputs) != len(lengths):
        raise ValueError(f"{len(outputs)} rows instead of {len(lengths)}")
    rows = [np.asarray(output["logprobs"].data, np.float32).reshape(-1) for output in outputs]
    for row, length in zip(rows, lengths, strict=True):
        if len(row) < length - 1:
            raise ValueError(f"{len(row)} log-probabilities for a row of {length} tokens")
    return rows


def _shifted(pack: Pack) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every token but the last, and every one but the first."""
    assert pack.is_chain, "rows only: the learner says so to whoever packs"
    return pack.token_ids[:-1], pack.token_ids[1:]


def _policy_row(pack: Pack, advantage_E: NDArray[Any], logp_E: NDArray[Any]) -> types.Datum:
    """A row with an advantage and the log-probability that its ratio is to, for each entry."""
    advantages, logprobs = (np.zeros(len(pack.token_ids) - 1) for _ in range(2))
    # Several entries may have one token: what they teach adds up.
    np.add.at(advantages, pack.predictors, advantage_E)
    logprobs[pack.predictors] = logp_E
    return _datum(pack, advantages=advantages.astype(np.float32), logprobs=logprobs.astype(np.float32))


def _datum(pack: Pack, **inputs: NDArray[np.float32]) -> types.Datum:
    tokens, targets = _shifted(pack)
    return datum(tokens, targets, **inputs)


def datum(tokens: NDArray[np.int64], targets: NDArray[np.int64], **inputs: NDArray[np.float32]) -> types.Datum:
    """One row as the API takes it; all arrays are of one length."""
    given: dict[str, NDArray[Any]] = {"target_tokens": targets, **inputs}
    return types.Datum(
        model_input=types.ModelInput.from_ints(tokens.tolist()),
        loss_fn_inputs={name: types.TensorData.from_numpy(values) for name, values in given.items()},
    )
