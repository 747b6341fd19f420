"""How far ratios of sampled tokens are spread, by `target_tag`, of an update: extremes and quantiles.

In: log-ratios at the entries of packs. Out: metrics over all packs, minibatches and ranks, whatever of them computed
what: counts in fixed bins add up, as a sorted list would not. Extremes are exact; a quantile is that of its bin, whose
log-ratios differ by at most 5%, or by .00005 around 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import Tensor

QUANTILES = {"p01": 0.01, "p99": 0.99}
_SMALLEST, _WIDTH, _SIDE = 1e-3, 0.05, 200
"""Bins are even in sign(d) log(1 + |d| / _SMALLEST), so fine near 0; the outermost hold all beyond +-22."""


class RatioSpread:
    """Counts of log-ratios in bins, and their extremes, by tag."""

    def __init__(self, tags: Sequence[str]) -> None:
        self._tags = tuple(tags)
        self._counts = torch.zeros(len(self._tags), 2 * _SIDE + 1, dtype=torch.float64)
        self._largest = torch.full((len(self._tags), 2), -torch.inf, dtype=torch.float64)
        """By tag, of the log-ratio and of its negative."""

    def add(self, tag_E: Tensor, log_ratio_E: Tensor) -> None:
        """Add one pack's entries."""
        # What is not a number skips its step, and with it what was counted here.
        d_E = log_ratio_E.detach().cpu().double().nan_to_num(nan=0.0)
        place_E = torch.sign(d_E) * torch.log1p(d_E.abs() / _SMALLEST) / _WIDTH
        bin_E = place_E.round().clamp(-_SIDE, _SIDE).long() + _SIDE
        self._counts.index_put_((tag_E, bin_E), torch.ones_like(d_E), accumulate=True)
        for side, values_E in enumerate((d_E, -d_E)):
            self._largest[:, side].scatter_reduce_(0, tag_E, values_E, "amax")

    def include(self, other: RatioSpread) -> None:
        """Add what `other` gathered."""
        self._counts += other._counts
        self._largest = torch.maximum(self._largest, other._largest)

    def metrics(self, accelerator: Accelerator) -> dict[str, float]:
        """`policy/<tag>/ratio_min`, `_p01`, `_p99`, `_max` over all ranks, of tags with a token."""
        counts = accelerator.reduce(self._counts.to(accelerator.device), reduction="sum").cpu()
        largest = accelerator.gather(self._largest[None].to(accelerator.device)).cpu().max(dim=0).values
        metrics = {}
        for tag, count_B, (high, low) in zip(self._tags, counts, largest.tolist(), strict=True):
            if count_B.sum() == 0:
                continue
            metrics[f"policy/{tag}/ratio_min"] = _ratio(-low)
            for name, share in QUANTILES.items():
                # Of few tokens the middle of a bin may lie beyond all of them.
                metrics[f"policy/{tag}/ratio_{name}"] = _ratio(min(max(_quantile(count_B, share), -low), high))
            metrics[f"policy/{tag}/ratio_max"] = _ratio(high)
        return metrics


def _quantile(count_B: Tensor, share: float) -> float:
    """The log-ratio in the middle of the first bin up to which `share` of the tokens lie."""
    place = (int(torch.searchsorted(count_B.cumsum(0), share * count_B.sum())) - _SIDE) * _WIDTH
    return math.copysign(_SMALLEST * math.expm1(abs(place)), place)


def _ratio(log_ratio: float) -> float:
    """Finite, whatever the distance: a metric is a number."""
    return math.exp(min(max(log_ratio, -700.0), 700.0))
