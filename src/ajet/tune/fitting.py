"""Measured passes -> the costs of packs, and what they change. Pure.

In: how long forward and backward passes over packs of several sizes took. Out: `PackCosts`, and from how many shared
tokens on two rows are joined by them. Left out: measuring.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from ajet.config.hardware import PackCosts
from ajet.errors import ConfigError
from ajet.train.packing import cost_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """A forward and backward pass over one pack."""

    num_tokens: int
    is_chain: bool
    seconds: float


def fitted(passes: Sequence[Pass]) -> PackCosts:
    """The costs by which the passes' times are nearest, none of them below zero, each time's error against itself.

    seconds = start + token * U + pair * U^2, with a pair of its own where nothing branches; in tokens all is divided by
    what a token takes.

    Raises:
        ConfigError: the packs were too small for a token to take any time, or something disturbed the machine.
    """
    of = np.array([one.num_tokens for one in passes], float)
    plain = np.array([one.is_chain for one in passes])
    seconds = np.array([one.seconds for one in passes])
    parts = np.stack([np.ones_like(of), of, of**2 * ~plain, of**2 * plain], axis=1)
    (start, token, pair, plain_pair), _ = nnls(parts / seconds[:, None], np.ones_like(of))
    if token <= 0:
        raise ConfigError(
            "passes did not take longer by their tokens, so nothing can be told of what a token takes: raise "
            "algorithm.max_pack_tokens, or measure while the machine does less"
        )
    default = PackCosts()
    if plain.all():
        # Nothing branches with this model, and no pack will: only what plain rows pay is ever asked for.
        return PackCosts(pair=_short(plain_pair / token / default.chain_share), start=_short(start / token))
    share = min(plain_pair / pair, 1.0) if pair > 0 else default.chain_share
    return PackCosts(pair=_short(pair / token), chain_share=_short(share), start=_short(start / token))


def _short(value: float) -> float:
    return float(f"{value:.3g}")


def least_shared(length: int, costs: PackCosts) -> int | None:
    """From how many shared tokens on two rows of `length` tokens are joined to a pack; None where they never are."""
    apart = 2 * cost_of(length, costs, is_chain=True) + costs.start
    return next(
        (shared for shared in range(length) if cost_of(2 * length - shared, costs, is_chain=False) <= apart), None
    )


def best_number(seconds: Mapping[int, float], *, within: float = 1.05) -> int:
    """The fewest threads that are nearly as fast as the fastest number of them."""
    fastest = min(seconds.values())
    return min(num for num, taken in seconds.items() if taken <= within * fastest)
