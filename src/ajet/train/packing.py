"""Rows -> packs: unique tokens of shared-prefix subtrees under a budget. Pure numpy.

In: training rows and their token weights. Out: packs. In a pack each token of the tree stands once, at the position
of its depth, and attends to its ancestors only; what is trained are *entries*, one a sampled token of a row, so two
rows that sampled the same token bring two entries to one node. Splitting repeats a shared prefix where that is cheaper
than attention, which grows with the square of a pack. Several processes share packs by the same costs. Left out:
tensors and devices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ajet.config.hardware import PackCosts
from ajet.records import CallKey, TrainingSample
from ajet.train.masks import Masks, RowMasks
from ajet.train.timeline import build_tree


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueTargets:
    """What the values of C calls are trained towards."""

    targets: NDArray[np.float64]
    """C, in units of reward."""
    weights: NDArray[np.float64]
    """C weights in the batch's loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """U unique tokens and E loss entries.

    Example: rows (5, 6, 7) and (5, 6, 9) whose last token was sampled: token_ids (5, 6, 7, 9), parents
    (-1, 0, 1, 1), and two entries that predict 7 and 9 from node 1, of calls 0 and 1.
    """

    token_ids: NDArray[np.int64]
    """U ids, parents before children."""
    parents: NDArray[np.int64]
    """U node indices, -1 for a root; nodes stand in the order of a walk that visits a node's whole subtree before
    anything else."""
    positions: NDArray[np.int64]
    """U depths."""
    predictors: NDArray[np.int64]
    """E nodes whose output predicts the entry's token: the sampled token's parent."""
    targets: NDArray[np.int64]
    """E sampled ids."""
    logprobs: NDArray[np.float64]
    """E log-probabilities at sampling time."""
    advantages: NDArray[np.float64]
    """E advantages."""
    weights: NDArray[np.float64]
    """E weights in the batch's loss."""
    tags: NDArray[np.int64]
    """E indices into the batch's tags."""
    calls: NDArray[np.int64]
    """E calls, numbered within the pack from 0 without gaps. A call is never split: its tokens stand in one row, and a
    row in one pack, so that what depends on all tokens of a call can be computed pack by pack."""
    call_keys: tuple[CallKey, ...]
    """C calls of the step, by their number."""
    num_row_tokens: int
    """Tokens of the rows before merging."""
    masks: Masks | None = None
    """Where replies were sampled under grammars."""
    values: ValueTargets | None = None
    """Of its calls, where values are trained."""

    @property
    def starts(self) -> NDArray[np.int64]:
        """For each of C calls the entry of its first sampled token."""
        return np.unique(self.calls, return_index=True)[1]

    @property
    def is_chain(self) -> bool:
        """Whether every token follows the one before it, as in a single row."""
        return bool((self.parents == np.arange(-1, len(self.parents) - 1)).all())


IDLE = Pack(
    token_ids=np.zeros(2, np.int64),
    parents=np.array([-1, 0]),
    positions=np.array([0, 1]),
    predictors=np.zeros(1, np.int64),
    targets=np.zeros(1, np.int64),
    logprobs=np.zeros(1),
    advantages=np.zeros(1),
    weights=np.zeros(1),
    tags=np.zeros(1, np.int64),
    calls=np.zeros(1, np.int64),
    call_keys=(("", 0, 0),),
    num_row_tokens=0,
)
"""What a rank without a pack computes beside the others, where all must call the model equally often."""


def cost_of(num_tokens: int, costs: PackCosts, *, is_chain: bool) -> float:
    """Of a pack, without its start, in tokens."""
    return num_tokens + costs.pair * num_tokens**2 * (costs.chain_share if is_chain else 1.0)


def build_packs(
    samples: Sequence[TrainingSample],
    weights: Sequence[float],
    tags: Sequence[str],
    *,
    max_tokens: int,
    branches: bool = True,
    costs: PackCosts | None = None,
    masks: RowMasks | None = None,
) -> list[Pack]:
    """Put rows into packs of at most `max_tokens` unique tokens (a longer row has a pack of its own).

    Args:
        samples: rows; each must start with at least one token that was not sampled.
        weights: weight of the sampled tokens of each row.
        tags: the batch's tags; a pack stores indices into it.
        max_tokens: budget.
        branches: whether packs may branch; else each is a row, along with rows that are its beginnings.
        costs: what decides which rows share a pack; None for the defaults.
        masks: of the rows, where some were sampled under grammars.
    """
    bundles = _bundles(
        [sample.token_ids for sample in samples], costs or PackCosts(), max_tokens=max_tokens, branches=branches
    )
    index = {tag: n for n, tag in enumerate(tags)}
    return [
        _pack(
            [samples[i] for i in bundle],
            [weights[i] for i in bundle],
            index,
            None if masks is None else masks.of(bundle),
        )
        for bundle in bundles
    ]


def _bundles(rows: Sequence[tuple[int, ...]], costs: PackCosts, *, max_tokens: int, branches: bool) -> list[list[int]]:
    """Places in `rows` of what shares a pack. In the order of their ids rows stand beside those that they share most
    with, so that one pass, which asks of each row whether it joins the bundle before it, comes close to the best."""
    bundles: list[list[int]] = []
    size, chain = 0, True
    previous: tuple[int, ...] = ()
    for i in sorted(range(len(rows)), key=lambda i: rows[i]):
        ids = rows[i]
        shared = _shared_prefix(previous, ids)
        merged = size + len(ids) - shared
        still_chain = chain and shared == len(previous)
        apart = cost_of(size, costs, is_chain=chain) + costs.start + cost_of(len(ids), costs, is_chain=True)
        allowed = merged <= max_tokens and (branches or still_chain)
        if bundles and allowed and cost_of(merged, costs, is_chain=still_chain) <= apart:
            bundles[-1].append(i)
            size, chain = merged, still_chain
        else:
            bundles.append([i])
            size, chain = len(ids), True
        previous = ids
    return bundles


def shared_out(packs: Sequence[Pack], num: int, costs: PackCosts) -> list[list[Pack]]:
    """The packs in `num` shares of costs that are nearly even: the dearest first, each to the share that has least.
    Within a share they stand as they stood."""
    dear = [costs.start + cost_of(len(pack.token_ids), costs, is_chain=pack.is_chain) for pack in packs]
    shares: list[list[int]] = [[] for _ in range(num)]
    sums = [0.0] * num
    for i in sorted(range(len(packs)), key=lambda i: -dear[i]):
        least = sums.index(min(sums))
        shares[least].append(i)
        sums[least] += dear[i]
    return [[packs[i] for i in sorted(share)] for share in shares]


def subtree_ends(parents: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each of U nodes in the order of a walk that visits a node's whole subtree before anything else, the first one
    behind its subtree. So k is an ancestor of q, or q itself, where k <= q < ends[k].

    Example: parents (-1, 0, 1, 1) have ends (4, 4, 3, 4).
    """
    ends = np.full(len(parents), len(parents), dtype=np.int64)
    # Where a token does not follow the one before it, everything between it and its parent is done. The last first: of
    # several the nearest counts.
    for node in np.flatnonzero(parents != np.arange(-1, len(parents) - 1))[::-1]:
        ends[parents[node] + 1 : node] = node
    return ends


def _shared_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    num = min(len(a), len(b))
    if a[:num] == b[:num]:
        return num
    low, high = 0, num
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if a[low:middle] == b[low:middle] else (low, middle)
    return low


def _pack(
    samples: Sequence[TrainingSample], weights: Sequence[float], tag_index: dict[str, int], masks: Masks | None
) -> Pack:
    tree = build_tree([sample.token_ids for sample in samples])
    predictors: list[int] = []
    targets: list[int] = []
    logprobs: list[float] = []
    advantages: list[float] = []
    counts: list[int] = []
    calls: list[int] = []
    numbers: dict[tuple[int, int], int] = {}
    for row, (sample, nodes) in enumerate(zip(samples, tree.row_nodes, strict=True)):
        assert not sample.loss_mask[0], "a row's first token has nothing to be predicted from"
        sampled = [t for t, masked in enumerate(sample.loss_mask) if masked]
        predictors += [nodes[t - 1] for t in sampled]
        targets += [sample.token_ids[t] for t in sampled]
        logprobs += [sample.logprobs[t] for t in sampled]
        advantages += [sample.advantages[t] for t in sampled]
        calls += [numbers.setdefault((row, sample.calls[t]), len(numbers)) for t in sampled]
        counts.append(len(sampled))
    return Pack(
        token_ids=np.array(tree.token_ids),
        parents=np.array(tree.parents),
        positions=np.array(tree.depths),
        predictors=np.array(predictors),
        targets=np.array(targets),
        logprobs=np.array(logprobs),
        advantages=np.array(advantages),
        weights=np.repeat(weights, counts),
        tags=np.repeat([tag_index[sample.target_tag] for sample in samples], counts),
        calls=np.array(calls),
        call_keys=tuple((*samples[row].episode_key, call) for row, call in numbers),
        num_row_tokens=sum(len(sample.token_ids) for sample in samples),
        masks=masks,
    )
