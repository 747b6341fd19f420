"""What a Tinker server does with token losses, found out by steps whose direction depends on nothing else.

*How it adds up.* A token is pushed up in a short row and, one and a half times as hard, down in a row three times as
long. Where losses of tokens are summed, down wins; where each row is a mean over its positions, up does. The second
step is the first with both signs turned, so that a server that does not heed advantages fits neither. Adam makes steps
of one size of any gradient, so that sizes could not tell.

*Whether a loss of its is the run's.* A token is pushed up and down at a ratio above the bounds and at one below. Where
the run's loss has no gradient there, nothing may move. Where it has one, its size is told by the same token in a second
row, at a ratio of 1, which is pushed the other way: the token has to go with the first push where the second is a
little weaker than that gradient, and against it where it is a little stronger.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tinker
import torch
from numpy.typing import NDArray
from tinker import types

from ajet.engine.tinker_service import TinkerService
from ajet.errors import EngineError
from ajet.train.algorithms.rule import LearningRule
from ajet.train.algorithms.tokens import SampledTokens
from ajet.train.tinker_losses import ServerLoss
from ajet.train.tinker_rows import SEQUENCE_MEAN, TOKEN_SUM, datum

PROBING = "a probe of its losses"
SHORT, LONG = 8, 24
"""Positions of the two rows."""
PUSH = 1.5
RATES = (1e-4, 4e-4, 1.6e-3, 6.4e-3)
LOSS_RATE = 1.6e-3
BEYOND = 2.0
"""How far beyond a bound a ratio is, as a factor."""
UNBOUNDED = 1 / 16
"""The ratio that stands for those below where a loss has no bound."""
MARGIN = 1.25
"""The factor by which a gradient is told from a smaller and a larger one; more than bfloat16 rounds a ratio by."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """One step of the probe of a loss: one token in two rows, and which way it has to go."""

    ratio: float
    """Of the token in the first row."""
    advantage: float
    """Likewise."""
    against: float
    """The advantage in the second row, where the ratio is 1."""
    way: int
    """1 up, -1 down, 0 nowhere."""

    def fits(self, moved: float) -> bool:
        """Whether a log-probability that has moved so far has gone that way."""
        return moved * self.way >= LEAST if self.way else abs(moved) <= STILL


def pushes(loss: ServerLoss, rule: LearningRule) -> Iterator[Push]:
    """What tells the run's loss from others under the same name.

    Args:
        loss: bounds of the ratio.
        rule: has the run's loss, whose gradients are what is expected.
    """
    above, below = BEYOND * max(loss.highest, 1.0), min(loss.lowest, 1.0) / BEYOND
    for ratio in (above, below or UNBOUNDED):
        for advantage in (1.0, -1.0):
            slope, unit = _slope(rule, ratio, advantage), abs(_slope(rule, 1.0, -advantage))
            if slope == 0:
                yield Push(ratio=ratio, advantage=advantage, against=0.0, way=0)
                continue
            way = 1 if slope > 0 else -1
            yield Push(ratio=ratio, advantage=advantage, against=-slope / unit / MARGIN, way=way)
            yield Push(ratio=ratio, advantage=advantage, against=-slope / unit * MARGIN, way=-way)


def _slope(rule: LearningRule, ratio: float, advantage: float) -> float:
    """How steeply the loss of a token falls with its log-probability."""
    logp, nothing = torch.tensor([math.log(ratio)], requires_grad=True), torch.zeros(1)
    tokens = SampledTokens(
        logp=logp,
        logp_old=nothing,
        logp_sampled=nothing,
        advantages=torch.tensor([advantage]),
        entropy=nothing,
        calls=torch.zeros(1, dtype=torch.int64),
    )
    (slope,) = torch.autograd.grad(rule.token_losses(tokens)[0].sum(), logp)
    return -float(slope)


def has_loss(service: TinkerService, loss: ServerLoss, rule: LearningRule, *, rank: int, vocab_size: int) -> bool:
    """Whether the server's loss is the run's; arguments and errors as `pushes` and `measured_normalization`."""
    client = service.trainer(rank=rank, seed=0)
    ids = _ids(vocab_size)
    try:
        before = _logp(service, client, ids)
        for push in pushes(loss, rule):
            # Rows of one length, whose losses count alike however they are added up.
            rows = [_row(ids, push.advantage, before - math.log(push.ratio)), _row(ids, push.against, before)]
            try:
                _step(service, client, rows, LOSS_RATE, loss.name, loss.settings)
            except EngineError as error:
                if not isinstance(error.__cause__, REFUSALS):
                    raise
                return False
            after = _logp(service, client, ids)
            if not push.fits(after - before):
                return False
            before = after
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
