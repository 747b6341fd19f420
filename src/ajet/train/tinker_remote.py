"""Adapters that lie on a server of the Tinker API: what is asked of them, in rows, and what comes back, in tensors.

In: packs that are plain rows. Out: log-probabilities of their entries, or an optimizer step. The adapters are made when
they are first needed, for a run that is resumed brings its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tinker import types
from torch import Tensor

from ajet.engine.tinker_service import TinkerService
from ajet.errors import EngineError
from ajet.train.packing import Pack
from ajet.train.tinker_rows import row_logps, scoring_row


@dataclass(slots=True)
class _Asked:
    """Rows that were asked for together."""

    future: Any
    """The client's."""
    lengths: list[int]
    """Tokens of each row."""
    places: dict[tuple[int, ...], int] = field(default_factory=dict)
    """Which of them a row is, by its ids."""
    rows: list[NDArray[np.float32]] | None = None
    """The answer, once it was waited for."""


def _key(pack: Pack) -> tuple[int, ...]:
    return tuple(pack.token_ids.tolist())


class RemoteAdapters:
    """One set of adapters and its optimizer. Every method raises `EngineError` where the server fails."""

    def __init__(self, service: TinkerService, *, rank: int, seed: int) -> None:
        """Nothing is made yet.

        Args:
            service: the connection.
            rank: of the adapters.
            seed: of their start, at which they change nothing.
        """
        self._service, self._rank, self._seed = service, rank, seed
        self._made: Any = None
        self._asked: dict[tuple[int, ...], _Asked] = {}
        """Rows by their ids, of the adapters as they are now."""

    def make(self) -> None:
        """Make them now, unless they are there, so that a server that would not is found out."""
        self._client()

    def foresee(self, packs: Sequence[Pack]) -> None:
        """Ask now for what `logps` will be asked for, and don't wait; of adapters that are not made yet, nothing."""
        new = [pack for pack in packs if _key(pack) not in self._asked]
        if not new or self._made is None:
            return
        rows, client = [scoring_row(pack) for pack in new], self._made
        future = self._service.called(lambda: client.forward(rows, "cross_entropy"), "sending rows")
        asked = _Asked(future, [len(pack.token_ids) for pack in new])
        self._asked |= {_key(pack): asked for pack in new}
        asked.places |= {_key(pack): place for place, pack in enumerate(new)}

    def logps(self, packs: Sequence[Pack]) -> list[Tensor]:
        """Of each row's entries, as the adapters are now."""
        self.make()
        self.foresee(packs)
        return [torch.from_numpy(self._answered(_key(pack))[pack.predictors]) for pack in packs]

    def _answered(self, key: tuple[int, ...]) -> NDArray[np.float32]:
        """A row that was asked for, once its answer is there."""
        asked = self._asked[key]
        if asked.rows is None:
            answer = self._service.wait(lambda: asked.future, "computing log-probabilities")
            asked.rows = self._read(answer, asked.lengths)
        return asked.rows[asked.places[key]]

    def forget(self) -> None:
        """Let go of the answers of adapters that no step changes, once a batch is learned."""
        self._asked.clear()

    def learn(
        self,
        packs: Sequence[Pack],
        rows: list[types.Datum],
        adam: types.AdamParams,
        *,
        loss: types.LossFnType,
        settings: Mapping[str, float] | None = None,
    ) -> list[Tensor]:
        """An optimizer step. Both requests are sent before either is waited for: the server goes from one to the other.

        Args:
            packs: what the rows were made of.
            rows: with what the loss needs.
            adam: the step's settings.
            loss: of the server's.
            settings: of that loss.

        Returns:
            Log-probabilities of each row's entries, as the adapters were before the step.
        """
        client = self._client()
        learned = self._service.called(lambda: client.forward_backward(rows, loss, settings), "sending rows")
        stepped = self._service.called(lambda: client.optim_step(adam), "sending a step")
        self._asked.clear()
        answer = self._service.wait(lambda: learned, "computing gradients")
        self._service.wait(lambda: stepped, "an optimizer step")
        told = self._read(answer, [len(pack.token_ids) for pack in packs])
        return [torch.from_numpy(row[pack.predictors]) for row, pack in zip(told, packs, strict=True)]

    def sampler(self) -> Any:
        """A sampling client of the adapters as they are now."""
        return self._service.sampler(self._client())

    def save(self) -> tuple[str, str]:
        """Save adapters with their optimizer, and adapters to sample from, under names that no other run has; returns
        the server's paths."""
        client = self._client()
        return (
            self._service.saved(client.save_state, "state", "saving the state"),
            self._service.saved(client.save_weights_for_sampler, "sampler", "saving weights"),
        )

    def restore(self, state_path: str) -> None:
        """Go on from what `save` saved."""
        self._made = self._service.restored(state_path, rank=self._rank, seed=self._seed)
        self._asked.clear()

    def _client(self) -> Any:
        if self._made is None:
            self._made = self._service.trainer(rank=self._rank, seed=self._seed)
        return self._made

    def _read(self, answer: Any, lengths: Sequence[int]) -> list[NDArray[np.float32]]:
        try:
            return row_logps(answer, lengths)
        except (KeyError, ValueError) as error:
            raise EngineError(f"the Tinker server at {self._service.url} answered with {error}") from error
