"""Which rows are worth computing. Pure; nothing is left out without being counted by the caller."""

from __future__ import annotations

from collections.abc import Sequence

from ajet.records import TrainingSample


def drop_zero_advantage(samples: Sequence[TrainingSample]) -> list[TrainingSample]:
    """Rows whose advantage is not zero: without a KL term the others have no gradient."""
    return [sample for sample in samples if sample.advantage != 0.0]
