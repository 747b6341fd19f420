"""An entropy bonus that pays only where a role has become too sure: `algorithm.entropy_target`. Pure.

With e the mean entropy over a tag's sampled tokens in an optimizer step, nats, and c what starts at `entropy_coef`:

    e <= target: c <- min(c + delta, max), and the next step has the bonus c
    e >  target: c <- max(c - delta, 0), and the next step has none

Skywork-OR1 (He et al. 2025, arXiv 2505.22312), as TRL has it (`use_adaptive_entropy`). Each `target_tag` has a c of its
own: in a mean over roles one that has collapsed would hide behind another that has not. The bonus on a token weighs
what its loss weighs (`aggregations/`); TRL's is always a mean over tokens, which is that of `aggregation=dapo`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ajet.config.algorithm import AlgorithmConfig


class EntropyBonus:
    """What a token's entropy is paid, by tag; without a target `entropy_coef` for all of them."""

    def __init__(self, algorithm: AlgorithmConfig) -> None:
        """Nothing was measured yet: with a target the first step has no bonus."""
        self._algorithm = algorithm
        self._kept: dict[str, float] = {}
        """c by tag."""
        self._paid: dict[str, bool] = {}
        """By tag, whether its entropy was too low when it was last measured."""

    def coefficients(self, tags: Sequence[str]) -> list[float]:
        """What the next optimizer step pays a nat, of each of these tags."""
        if self._algorithm.entropy_target is None:
            return [self._algorithm.entropy_coef] * len(tags)
        return [self._kept[tag] if self._paid.get(tag) else 0.0 for tag in tags]

    def measured(self, entropies: Mapping[str, float]) -> None:
        """Take down what an optimizer step, which was taken, has found: mean entropies by tag."""
        target = self._algorithm.entropy_target
        if target is None:
            return
        for tag, entropy in entropies.items():
            before, delta = self._kept.get(tag, self._algorithm.entropy_coef), self._algorithm.entropy_coef_delta
            self._paid[tag] = entropy <= target
            after = min(before + delta, self._algorithm.entropy_coef_max) if self._paid[tag] else before - delta
            self._kept[tag] = max(after, 0.0)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run goes on from."""
        return {"kept": dict(self._kept), "paid": dict(self._paid)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave; nothing of a run that kept nothing."""
        self._kept, self._paid = dict(state.get("kept", {})), dict(state.get("paid", {}))
