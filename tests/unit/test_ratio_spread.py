"""Quantiles of ratios that add up over packs: exact at the ends, close in between."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from ajet.train.ratio_spread import RatioSpread


def metrics(spread: RatioSpread) -> dict[str, float]:
    return spread.metrics(Accelerator(cpu=True))


def test_extremes_are_exact_and_quantiles_close_by_tag_and_a_tag_without_tokens_is_left_out() -> None:
    seers = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, 5000))
    spread = RatioSpread(("seer", "witch", "wolf"))
    spread.add(torch.zeros(5000, dtype=torch.int64), seers)
    spread.add(torch.ones(2, dtype=torch.int64), torch.tensor([0.0, math.log(2)]))
    found = metrics(spread)
    assert found["policy/seer/ratio_min"] == pytest.approx(float(seers.min().exp()))
    assert found["policy/seer/ratio_max"] == pytest.approx(float(seers.max().exp()))
    for name, share in (("p01", 0.01), ("p99", 0.99)):
        wanted = float(np.quantile(seers.numpy(), share))
        assert math.log(found[f"policy/seer/ratio_{name}"]) == pytest.approx(wanted, rel=0.03)
    assert [found[f"policy/witch/ratio_{name}"] for name in ("min", "p01")] == [1.0, 1.0]
    assert found["policy/witch/ratio_p99"] == pytest.approx(2.0, rel=0.02)
    assert not any("wolf" in name for name in found)


def test_packs_counted_apart_give_what_they_give_together() -> None:
    tags, values = torch.tensor([0, 1, 0, 1, 0]), torch.tensor([0.3, -0.2, 1e-7, 40.0, math.nan])
    whole, parts = RatioSpread(("a", "b")), [RatioSpread(("a", "b")) for _ in range(2)]
    whole.add(tags, values)
    parts[0].add(tags[:2], values[:2])
    parts[1].add(tags[2:], values[2:])
    parts[0].include(parts[1])
    assert metrics(parts[0]) == metrics(whole)
    assert all(math.isfinite(value) for value in metrics(whole).values())
