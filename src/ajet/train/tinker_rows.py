"""Packs that are plain rows -> what a Tinker server is sent, and what it answers -> values at the packs' entries.

The API has no masks: a position without an advantage teaches nothing. Any loss that is a function of log-probabilities
is sent as the one that all servers have, importance sampling: with the log-probabilities as they are now for those
sampled with, each ratio is 1, and the gradient of -ratio * A is that of the loss where A = -dloss/dlogp.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
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
    _, targets = _shifted(pack)
    advantages, logprobs = np.zeros(len(targets)), np.zeros(len(targets))
    # Several entries may have one token: their slopes add up.
    np.add.at(advantages, pack.predictors, -slope_E.double().numpy() * scale)
    logprobs[pack.predictors] = logp_E.double().numpy()
    return _datum(pack, advantages=advantages.astype(np.float32), logprobs=logprobs.astype(np.float32))


def scales(packs: Sequence[Pack], normalization: str) -> list[float]:
    """What makes up for how a server adds up, for each row of one optimizer step."""
    if normalization == TOKEN_SUM:
        return [1.0] * len(packs)
    return [float((len(pack.token_ids) - 1) * len(packs)) for pack in packs]


def entry_logps(answer: Any, packs: Sequence[Pack]) -> list[Tensor]:
    """The log-probabilities of each row's entries, as a server's answer has them.

    Raises:
        ValueError: there are not as many as were asked for.
    """
    outputs = answer.loss_fn_outputs
    if len(outputs) != len(packs):
        raise ValueError(f"{len(outputs)} rows instead of {len(packs)}")
    found = []
    for output, pack in zip(outputs, packs, strict=True):
        logps = np.asarray(output["logprobs"].data, np.float32).reshape(-1)
        if len(logps) < len(pack.token_ids) - 1:
            raise ValueError(f"{len(logps)} log-probabilities for a row of {len(pack.token_ids)} tokens")
        found.append(torch.from_numpy(logps[pack.predictors]))
    return found


def _shifted(pack: Pack) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every token but the last, and every one but the first."""
    assert pack.is_chain, "rows only: the learner says so to whoever packs"
    return pack.token_ids[:-1], pack.token_ids[1:]


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
