"""The processes of one run, each called a rank: what each of them did, put together on all of them.

In: one rank's part of a list. Out: the whole list, the same on every rank. Started by `accelerate launch` or torchrun,
which tell each process its rank. Each rank plays its share of the episodes on an engine of its own; credit, packs and
metrics are computed by every rank from all of them, and so are alike; of the packs each trains its share
(`ajet.train.packing`), and gradients are added up (`ajet.train.policy`). Only the first rank writes files and shows
anything. Left out: which part of the work is whose, beyond turns; sharded weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from ajet.config.hardware import rank_and_size
from ajet.errors import AjetError, RankError
from ajet.rollout.runtime import Interrupted

T = TypeVar("T")
_PATIENCE = timedelta(days=2)
"""For a rank that plays long; one that has died is noticed at once, for its connections close."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """This process among those of the run."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether it is the one that writes files, shows progress and logs."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> list[T]:
        """This rank's items: every `size`-th, from the one of its number."""
        return list(items[self.rank :: self.size])

    def together(self, work: Callable[[], Sequence[T]]) -> list[T]:
        """Do this rank's part of some work; on every rank the results of all, in the order that `share` took apart.

        Raises:
            AjetError, Interrupted, OSError: what the work raised, on this rank or, if it did well here, on another.
            RankError: another process has ended.
        """
        if self.size == 1:
            return list(work())
        mine: Sequence[T] = ()
        failure: AjetError | Interrupted | OSError | None = None
        try:
            with hearing_of_the_lost():
                mine = work()
        except (AjetError, Interrupted, OSError) as error:
            failure = error
        parts: list[tuple[Sequence[T], AjetError | Interrupted | OSError | None]] = [((), None)] * self.size
        with hearing_of_the_lost():
            dist.all_gather_object(parts, (list(mine), failure))
        failures = [failed for _, failed in parts if failed is not None]
        if failures:
            raise failure or failures[0]
        longest = max(len(part) for part, _ in parts)
        return [part[i] for i in range(longest) for part, _ in parts if i < len(part)]

    def agree(self, act: Callable[[], None]) -> None:
        """Act on every rank; raises on all what one of them raised, as `together` does."""

        def nothing() -> Sequence[None]:
            act()
            return ()

        self.together(nothing)

    def of_the_first(self, value: T) -> T:
        """The first rank's value, on every rank.

        Raises:
            RankError: another process has ended.
        """
        if self.size == 1:
            return value
        given = [value]
        with hearing_of_the_lost():
            dist.broadcast_object_list(given, src=0)
        return given[0]


ALONE = Ranks()
"""The one process of a run that no launcher started."""


@contextmanager
def hearing_of_the_lost() -> Iterator[None]:
    """Around whatever ranks do together, `Ranks`' own calls and an update.

    Raises:
        RankError: another process has ended.
    """
    try:
        yield
    except RuntimeError as error:
        if dist.is_initialized() and any(words in str(error).lower() for words in _LOST):
            raise RankError("another process of the run has ended; what it said says why") from error
        raise


_LOST = ("connection closed by peer", "connection reset by peer", "broken pipe", "remote process exited")
"""In messages of gloo and NCCL, which have no type of their own for it."""


@contextmanager
def joined() -> Iterator[Ranks]:
    """The run's processes, once all of them are there; only this one where no launcher started it."""
    _, size = rank_and_size()
    if size == 1:
        yield ALONE
        return
    # Both: objects go by gloo, gradients by whatever their device needs.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield Ranks(rank=dist.get_rank(), size=size)
    finally:
        dist.destroy_process_group()
