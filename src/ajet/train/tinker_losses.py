"""The losses that a Tinker server has itself, and which of them is exactly a run's.

In: the `algorithm` group. Out: a `ServerLoss`, or None where the run's loss has to be linearised. Whether a server that
has the name has the loss, `tinker_probe` finds out. Left out: `gspo`, whose ratio is a row's, where ours is a call's
(docs/tinkerjet.md has all that there are).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tinker import types

from ajet.config.algorithm import AlgorithmConfig
from ajet.train.algorithms.losses.cispo import CAP
from ajet.train.algorithms.objective import is_plain


@dataclass(frozen=True, slots=True)
class ServerLoss:
    """A loss by the API's name, of one ratio a token, which is held between bounds."""

    name: types.LossFnType
    lowest: float
    highest: float

    @property
    def settings(self) -> dict[str, float]:
        """As the API takes them: ratios, not distances from 1."""
        return {"clip_low_threshold": self.lowest, "clip_high_threshold": self.highest}


def _ppo(algorithm: AlgorithmConfig) -> ServerLoss:
    """-min(r A, clip(r) A)."""
    return ServerLoss("ppo", 1 - algorithm.clip_low, 1 + algorithm.clip_high)


def _cispo(algorithm: AlgorithmConfig) -> ServerLoss:
    """-clip(r) A logp, with no gradient through clip(r): ours has no lower bound."""
    return ServerLoss("cispo", 0.0, float(algorithm.loss_args.get("cap", CAP)))


SERVER_LOSSES: Mapping[str, Callable[[AlgorithmConfig], ServerLoss]] = {"clip": _ppo, "cispo": _cispo}
"""By `algorithm.loss`. A weight times any of them is the same loss of the advantage times the weight."""


def server_loss(algorithm: AlgorithmConfig) -> ServerLoss | None:
    """The server's loss that is all of the run's: nothing surrounds it."""
    made = SERVER_LOSSES.get(algorithm.loss)
    return made(algorithm) if made is not None and is_plain(algorithm) else None
