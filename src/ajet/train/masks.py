"""What might have been sampled at each sampled token, where replies were sampled under grammars.

In: rows, and the calls that they are made of. Out: bit masks over the vocabulary, each distinct one once: a grammar has
few states that differ in what may come next, and a mask of 150,000 ids takes 19 KB. They are those of the engine
(`ajet.engine.grammars`), computed anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ajet.records import Call, EpisodeGroup, TrainingSample

ReplyMasks = Callable[[str, Sequence[int]], NDArray[np.int32]]
"""(grammar, ids of a reply) -> [T, W], the mask at each id, W words of 32 ids."""
FREE = -1
"""In place of a mask's number: any id might have been sampled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Masks:
    """M distinct masks, and which of them holds at each entry of a pack.

    Example: at the second of two entries only ids 0 and 2 were allowed: words [[0b0101]], of_entries (-1, 0).
    """

    words: NDArray[np.int32]
    """[M, W]: id i is allowed where bit i % 32 of word i // 32 is set."""
    of_entries: NDArray[np.int64]
    """E numbers of masks; `FREE` for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowMasks:
    """M distinct masks, and which of them holds at each sampled token of some rows."""

    words: NDArray[np.int32]
    of_rows: tuple[NDArray[np.int64], ...]
    """For each row, a number for each of its sampled tokens."""

    def of(self, rows: Sequence[int]) -> Masks | None:
        """Those of some rows, by their places, one behind the other; None where sampling was free in all of them."""
        of_entries = np.concatenate([self.of_rows[i] for i in rows])
        used, places = np.unique(of_entries, return_inverse=True)
        num_free = int(used[0] == FREE)
        if len(used) == num_free:
            return None
        return Masks(words=self.words[used[num_free:]], of_entries=places.astype(np.int64) - num_free)


def row_masks(rows: Sequence[TrainingSample], groups: Iterable[EpisodeGroup], reply_masks: ReplyMasks) -> RowMasks:
    """The masks of rows that were made of the groups' calls.

    Raises:
        EngineError: a reply does not keep to its grammar.
    """
    calls = {
        ((episode.task.task_id, episode.repeat), call.index): call
        for group in groups
        for episode in group.episodes
        for call in episode.calls
    }
    numbers: dict[bytes, int] = {}
    of_rows = tuple(_of_row(row, calls, reply_masks, numbers) for row in rows)
    words = np.frombuffer(b"".join(numbers), np.int32)
    return RowMasks(words=words.reshape(len(numbers), -1) if numbers else words.reshape(0, 0), of_rows=of_rows)


def _of_row(
    row: TrainingSample,
    calls: dict[tuple[tuple[str, int], int], Call],
    reply_masks: ReplyMasks,
    numbers: dict[bytes, int],
) -> NDArray[np.int64]:
    """Numbers of masks, by a call after the other: a call's tokens follow each other in a row."""
    found: list[int] = []
    for index in dict.fromkeys(number for number in row.calls if number >= 0):
        call = calls[row.episode_key, index]
        if not call.grammar:
            found += [FREE] * len(call.sampled_ids)
            continue
        found += [
            numbers.setdefault(words.tobytes(), len(numbers)) for words in reply_masks(call.grammar, call.sampled_ids)
        ]
    assert len(found) == sum(row.loss_mask)
    return np.array(found, np.int64)
