"""What is known of one server of the Tinker API: how it adds up losses, whether it has the run's loss itself, and that
it knows in training what it has sampled.

In: settings, what probes find before the first step, and the log-probabilities of that step. Out: what each step is
sent as, or an error before anything is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from ajet.engine.tinker_service import TinkerService
from ajet.errors import EngineError
from ajet.train.algorithms.rule import LearningRule
from ajet.train.packing import Pack
from ajet.train.tinker_losses import ServerLoss, server_loss
from ajet.train.tinker_probe import has_loss, measured_normalization

LOGPROB_GAPS = {"float32": 1e-4, "bfloat16": 1e-3}
"""Of `tinker.max_logprob_gap`, where it is not set."""


class Dialect:
    """Of one server, for one run."""

    def __init__(
        self,
        service: TinkerService,
        rule: LearningRule,
        *,
        rank: int,
        dtype: str,
        vocab_size: int,
        say: Callable[[str], None],
    ) -> None:
        """Nothing is asked of the server yet.

        Args:
            service: the connection, and its settings.
            rule: of the run.
            rank: of the adapters that probes are made with.
            dtype: what the server computes in.
            vocab_size: of the model.
            say: told a sentence for the user.
        """
        self._service, self._rule, self._say = service, rule, say
        self._rank, self._vocab_size = rank, vocab_size
        self.normalization = service.settings.normalization
        """`measured` until it is."""
        self._candidate = server_loss(rule.config) if service.settings.loss == "auto" else None
        self._has_candidate: bool | None = None
        """Whether the server's loss of that name is it, once that is known."""
        self._is_settled = False
        gap = service.settings.max_logprob_gap
        self._max_gap = LOGPROB_GAPS[dtype] if gap is None else gap
        self.is_checked = False
        """Whether the server's training is known to know its own samples."""

    @property
    def own_loss(self) -> ServerLoss | None:
        """The server's loss that is known to be the run's; None: it is linearised."""
        return self._candidate if self._has_candidate else None

    def settle(self) -> None:
        """Find out what is not known yet, before the first step, and say whose loss it is.

        Raises:
            EngineError: the server failed, or adds up in a way that is not known.
        """
        if self._is_settled:
            return
        probed = {"rank": self._rank, "vocab_size": self._vocab_size}
        if self.normalization == "measured":
            self.normalization = measured_normalization(self._service, **probed)
        if self._candidate is not None and self._has_candidate is None:
            self._has_candidate = has_loss(self._service, self._candidate, self._rule, **probed)
        self._say(self._told())
        self._is_settled = True

    def _told(self) -> str:
        if self.own_loss is not None:
            return f"the loss is the server's own {self.own_loss.name}, as a probe found it to be the run's"
        if self._candidate is not None:
            return f"the loss is linearised: a probe found the server's {self._candidate.name} to be none or another"
        if self._service.settings.loss != "auto":
            return f"the loss is linearised, as tinker.loss={self._service.settings.loss} says"
        return "the loss is linearised: no server's own is exactly the run's"

    def check(self, packs: Sequence[Pack], logps: Sequence[Tensor]) -> None:
        """Once a run: compare what training says of the first step's tokens with what they were sampled with.

        Args:
            packs: of the first step.
            logps: of each pack's entries, as the server has them in training.

        Raises:
            EngineError: they are apart.
        """
        if self.is_checked:
            return
        sampled = torch.cat([torch.from_numpy(pack.logprobs) for pack in packs])
        gap = float((torch.cat(list(logps)).double() - sampled).abs().mean())
        if not gap <= self._max_gap:
            raise EngineError(
                f"the Tinker server at {self._service.url} gives in training other log-probabilities than it sampled "
                f"with: {gap:.2g} apart in the mean, {self._max_gap:g} allowed; where it computes in bfloat16 say "
                "model.dtype=bfloat16, or set tinker.max_logprob_gap"
            )
        self.is_checked = True

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run need not find out again."""
        return {
            "server": self._service.url,
            "normalization": self.normalization,
            "server_loss": None if self._candidate is None else asdict(self._candidate),
            "has_server_loss": self._has_candidate,
            "is_checked": self.is_checked,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; what was found out of another loss than this run's is left, and all of a
        server at another address."""
        if state.get("server", self._service.url) != self._service.url:
            return
        self.normalization, self.is_checked = state["normalization"], state["is_checked"]
        if self._candidate is not None and state.get("server_loss") == asdict(self._candidate):
            self._has_candidate = state["has_server_loss"]
