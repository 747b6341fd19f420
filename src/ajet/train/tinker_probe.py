"""What a Tinker server does with token losses, found out by steps whose direction depends on nothing else.

*How it adds up.* A token is pushed up in a short row and, one and a half times as hard, down in a row three times as
long. Where losses of tokens are summed, down wins; where each row is a mean over its positions, up does. The second
step is the first with both signs turned, so that a server that does not heed advantages fits neither. Adam makes steps
of one size of any gradient, so that sizes could not tell.

*Whether its PPO is PPO.* A token is pushed up and down at a ratio of 2 and of 1/2. Where the clip has taken the
gradient away nothing moves, and else the token goes where it is pushed. Cross-entropy under that name fits nowhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tinker
from numpy.typing import NDArray
from tinker import types

from ajet.engine.tinker_service import TinkerService
from ajet.errors import EngineError
from ajet.train.tinker_rows import SEQUENCE_MEAN, TOKEN_SUM, datum

PROBING = "a probe of how it adds up"
SHORT, LONG = 8, 24
"""Positions of the two rows."""
PUSH = 1.5
RATES = (1e-4, 4e-4, 1.6e-3, 6.4e-3)
LOG_2 = 0.6931472
PROBED_CLIP = {"clip_low_threshold": 0.8, "clip_high_threshold": 1.2}
PPO_RATE = 1.6e-3
REFUSALS = (tinker.BadRequestError, tinker.NotFoundError, tinker.UnprocessableEntityError, tinker.RequestFailedError)
"""Of a server that does not have a loss, or not these settings of it."""
STILL = 1e-3
"""Nats that rounding may move a token's log-probability by where no weight has changed."""
LEAST = 0.02
"""Nats that the token's log-probability must move, more than bfloat16 rounds; far less than where a step is no longer
nearly straight."""


def measured_normalization(service: TinkerService, *, rank: int, vocab_size: int) -> str:
    """`token_sum` or `sequence_mean`.

    Args:
        service: the connection; an adapter of its own is made, and dropped.
        rank: of that adapter.
        vocab_size: of the model, for ids that it has.

    Raises:
        EngineError: the server fits neither.
    """
    client = service.trainer(rank=rank, seed=0)
    ids = _ids(vocab_size)
    moves = (0.0, 0.0)
    try:
        for rate in RATES:
            moves = _moved(service, client, ids, 1.0, rate), _moved(service, client, ids, -1.0, rate)
            if min(map(abs, moves)) >= LEAST:
                break
    finally:
        service.forget(client)
    up_then_down = moves[0] >= LEAST and moves[1] <= -LEAST
    down_then_up = moves[0] <= -LEAST and moves[1] >= LEAST
    if up_then_down or down_then_up:
        return SEQUENCE_MEAN if up_then_down else TOKEN_SUM
    raise EngineError(
        f"the Tinker server at {service.url} adds up losses in a way that is not known: a probe moved a token's "
        f"log-probability by {moves[0]:+.2g} and {moves[1]:+.2g}; if you know it, set tinker.normalization=token_sum "
        "or sequence_mean"
    )


def has_ppo(service: TinkerService, *, rank: int, vocab_size: int) -> bool:
    """Whether the server's `ppo` is the clipped surrogate; arguments and errors as `measured_normalization`."""
    client = service.trainer(rank=rank, seed=0)
    ids = _ids(vocab_size)
    try:
        for log_ratio, advantage in ((LOG_2, 1.0), (LOG_2, -1.0), (-LOG_2, 1.0), (-LOG_2, -1.0)):
            before = _logp(service, client, ids)
            # The long row is there for its shape only, which is compiled already.
            rows = [_row(ids[: SHORT + 1], advantage, before - log_ratio), _row(ids, 0.0, before)]
            try:
                _step(service, client, rows, PPO_RATE, "ppo", PROBED_CLIP)
            except EngineError as error:
                if not isinstance(error.__cause__, REFUSALS):
                    raise
                return False
            moved = _logp(service, client, ids) - before
            # Clipped where the ratio has gone the way of the advantage.
            fits = abs(moved) <= STILL if log_ratio * advantage > 0 else moved * advantage >= LEAST
            if not fits:
                return False
    finally:
        service.forget(client)
    return True


def _moved(service: TinkerService, client: Any, ids: NDArray[np.int64], sign: float, rate: float) -> float:
    """How far the pushed token's log-probability moves in a step."""
    before = _logp(service, client, ids)
    rows = [_row(ids[: SHORT + 1], sign, before), _row(ids, -PUSH * sign, before)]
    _step(service, client, rows, rate, "importance_sampling", None)
    return _logp(service, client, ids) - before


def _step(
    service: TinkerService,
    client: Any,
    rows: list[types.Datum],
    rate: float,
    loss: types.LossFnType,
    settings: dict[str, float] | None,
) -> None:
    # Without momentum: the steps are to know nothing of each other.
    adam = types.AdamParams(learning_rate=rate, beta1=0.0, beta2=0.0, eps=1e-12)
    learned = service.called(lambda: client.forward_backward(rows, loss, settings), PROBING)
    stepped = service.called(lambda: client.optim_step(adam), PROBING)
    service.wait(lambda: learned, PROBING)
    service.wait(lambda: stepped, PROBING)


def _ids(vocab_size: int) -> NDArray[np.int64]:
    return np.arange(LONG + 1, dtype=np.int64) % min(vocab_size - 1, 7) + 1


def _logp(service: TinkerService, client: Any, ids: NDArray[np.int64]) -> float:
    """Of the pushed token, the last of the short row."""
    row = datum(ids[:SHORT], ids[1 : SHORT + 1], weights=np.zeros(SHORT, np.float32))
    answer = service.wait(lambda: client.forward([row], "cross_entropy"), PROBING)
    try:
        return float(answer.loss_fn_outputs[0]["logprobs"].data[SHORT - 1])
    except (AttributeError, IndexError, KeyError) as error:
        raise EngineError(f"the Tinker server at {service.url} answered without log-probabilities") from error


def _row(ids: NDArray[np.int64], advantage: float, logp: float) -> types.Datum:
    length = len(ids) - 1
    advantages, logprobs = np.zeros(length, np.float32), np.zeros(length, np.float32)
    advantages[SHORT - 1], logprobs[SHORT - 1] = advantage, logp
    return datum(ids[:-1], ids[1:], advantages=advantages, logprobs=logprobs)
