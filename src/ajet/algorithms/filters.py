"""Which rows and tokens are worth computing. Pure; nothing is left out without being counted by the caller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ajet.records import TrainingSample

if TYPE_CHECKING:
    from torch import Tensor


def drop_zero_advantage(samples: Sequence[TrainingSample]) -> list[TrainingSample]:
    """Rows whose advantage is not zero: without a KL term the others have no gradient."""
    return [sample for sample in samples if sample.advantage != 0.0]


def top_entropy_mask(entropy_E: Tensor, fraction: float) -> Tensor:
    """1.0 for the `fraction` of entries with the highest entropy, else 0.0 (Wang et al. 2025, "Beyond the 80/20 rule").

    Ties at the threshold are all kept.
    """
    num_kept = max(1, round(fraction * entropy_E.numel()))
    threshold = entropy_E.sort(descending=True).values[num_kept - 1]
    return (entropy_E >= threshold).to(entropy_E.dtype)
