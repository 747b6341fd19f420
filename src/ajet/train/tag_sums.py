"""Sums over sampled tokens by `target_tag`, of an update: what `policy/<tag>/*` are means of.

In: values at the entries of packs. Out: metrics over all packs, minibatches and ranks. Left out: what the values mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import Tensor

from ajet.train.ratio_spread import RatioSpread

_MEANS = (
    "entropy",
    "certain_fraction",
    "clip_fraction",
    "clip_fraction_low",
    "clip_fraction_high",
    "capped_fraction",
    "masked_fraction",
    "held_fraction",
    "kl_ref",
)
_SUMMED = ("count", "on_policy", "mismatch_kl", "credit", "loss", "weight", "weight_squared", *_MEANS)


class TagSums:
    """Sums over entries by tag, for means that add up over packs, minibatches and ranks."""

    def __init__(self, tags: Sequence[str]) -> None:
        self.tags = tuple(tags)
        # All names from the start: every rank must reduce the same, packs or none.
        self._sums = {name: torch.zeros(len(self.tags), dtype=torch.float64) for name in _SUMMED}
        self._largest_gap = 0.0
        self._ratios = RatioSpread(tags)

    def add(self, tag_E: Tensor, gap_E: Tensor, log_ratio_E: Tensor, **values: Tensor) -> None:
        """Add one pack's entries; of the gaps only the largest is kept, of ratios their spread."""
        self._ratios.add(tag_E, log_ratio_E)
        self._sums["count"] += torch.bincount(tag_E, minlength=len(self.tags)).double()
        for name, value_E in values.items():
            self._sums[name] += torch.bincount(tag_E, weights=value_E.cpu().double(), minlength=len(self.tags))
        self._largest_gap = max(self._largest_gap, float(gap_E.max()))

    def include(self, other: TagSums) -> None:
        """Add what `other` gathered."""
        for name in _SUMMED:
            self._sums[name] += other._sums[name]
        self._largest_gap = max(self._largest_gap, other._largest_gap)
        self._ratios.include(other._ratios)

    def entropies(self, accelerator: Accelerator) -> dict[str, float]:
        """The mean entropy of each tag that has any entries, over all ranks."""
        stacked = torch.stack([self._sums["entropy"], self._sums["count"]]).to(accelerator.device)
        sums, counts = accelerator.reduce(stacked, reduction="sum").tolist()
        return {tag: a / n for tag, a, n in zip(self.tags, sums, counts, strict=True) if n}

    def metrics(self, accelerator: Accelerator) -> dict[str, float]:
        """Means by tag, and the largest gap, over all ranks."""
        stacked = torch.stack([self._sums[name] for name in _SUMMED]).to(accelerator.device)
        total = dict(zip(_SUMMED, accelerator.reduce(stacked, reduction="sum"), strict=True))
        gaps = accelerator.gather(torch.tensor([self._largest_gap], device=accelerator.device))
        credit = float(total["credit"].sum())
        metrics = {"policy/loss": float(total["loss"].sum()), "policy/max_logprob_gap": float(gaps.max())}
        for i, tag in enumerate(self.tags):
            count = float(total["count"][i])
            if count == 0:
                continue
            for name in _MEANS:
                metrics[f"policy/{tag}/{name}"] = float(total[name][i]) / count
            if total["on_policy"][i] > 0:
                metrics[f"policy/{tag}/mismatch_kl"] = float(total["mismatch_kl"][i] / total["on_policy"][i])
            squared = float(total["weight_squared"][i])
            share = float(total["weight"][i]) ** 2 / (count * squared) if squared else 0.0
            metrics[f"policy/{tag}/effective_sample_size"] = share
            metrics[f"policy/{tag}/grad_weight"] = float(total["credit"][i]) / credit if credit else 0.0
        return metrics | self._ratios.metrics(accelerator)
