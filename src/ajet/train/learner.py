"""The contract of what learns: a batch in, a changed policy and its statistics out; its state, and what it publishes.

The loop knows this contract alone. `train.policy` keeps it with a model in this process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from ajet.engine.base import Engine
from ajet.records import EpisodeGroup
from ajet.train.packing import Pack


class Learner(Protocol):
    """A policy, its optimizer, and whatever they are kept in."""

    @property
    def is_sharded(self) -> bool:
        """Whether each rank keeps a share of it only; then all of its methods are called on every rank alike."""
        ...

    @property
    def why_chains_only(self) -> str | None:
        """Why packs must be plain rows; None where they may branch."""
        ...

    @property
    def foresee(self) -> Callable[[EpisodeGroup], None] | None:
        """Takes each group of a training step as soon as its episodes are there, for what can be asked for before the
        batch is complete; must not block. None where there is nothing to ask for ahead."""
        ...

    @property
    def remarks(self) -> Sequence[str]:
        """What a run says at its start about how it will be trained: sentences, for what is slower than it might be."""
        ...

    @property
    def checkpoint_bytes(self) -> int:
        """What one checkpoint takes on this machine's disk."""
        ...

    def train_batch(
        self, minibatches: Sequence[Sequence[Pack]], tags: Sequence[str], *, num_steps_done: int
    ) -> dict[str, float]:
        """An optimizer step for each minibatch that holds anything and whose loss and gradient are finite, one epoch
        after the other.

        Args:
            minibatches: this rank's packs; as many in every training step and on every rank; some may be empty.
            tags: what the packs' tag indices mean.
            num_steps_done: training steps before this one, which the schedules go by.

        Returns:
            Metrics by their final names: `policy/<tag>/*`, `policy/*`, of the steps that were taken.
        """
        ...

    def reference_logps(self, packs: Sequence[Pack]) -> list[Tensor]:
        """Log-probabilities of each pack's entries (E) under what a KL penalty holds the policy to. For runs that have
        such a penalty; where weights are shared out, every rank must call it.

        Raises:
            EngineError: of a server that has the reference.
        """
        ...

    @property
    def call_values(self) -> Callable[[Sequence[Pack], Sequence[str]], list[Tensor]] | None:
        """(packs, what their tag indices mean) -> for each pack the values of its calls (C), in units of reward. For
        runs whose credit rule trains values; None of a learner that cannot."""
        ...

    def is_finite(self) -> bool:
        """Whether everything that is trained is finite; nothing else may be published or saved."""
        ...

    def publish(self, engine: Engine, policy_version: int) -> None:
        """Let the engine sample from the policy as it is now, under this version."""
        ...

    def model_writer(self, *, kept: bool = True) -> Callable[[Path], None]:
        """What writes the model as it is now, and its tokenizer, into a folder.

        Args:
            kept: as in `state_dict`; where it is false, what is returned must not be called.
        """
        ...

    def state_dict(self, *, kept: bool = True) -> dict[str, Any]:
        """Tensors and plain values: what a resumed run needs besides the starting model.

        Args:
            kept: False on a rank that has no use for it and only helps to gather what is shared out.
        """
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; KeyError, TypeError, ValueError or RuntimeError where it does not fit."""
        ...
