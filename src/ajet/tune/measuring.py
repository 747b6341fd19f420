"""Times on this machine: passes over packs of growing size, and how they go with the number of threads.

In: a policy on its device. Out: seconds. What is compared is measured in turns. A pass costs the least that it took,
when nothing else disturbed it; numbers of threads are told by the median, for what else runs is what slows them down.
Weights stay as they are: no step is taken.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from statistics import median
from typing import Any, TypeVar

import torch

from ajet.config.hardware import PackCosts
from ajet.engine.stepped import torch_threads
from ajet.records import TrainingSample
from ajet.train.packing import Pack, build_packs
from ajet.train.policy import TrainablePolicy
from ajet.tune.fitting import Pass

SMALLEST, BRANCHES, ROUNDS = 64, 4, 3
"""Tokens of the smallest pack; rows of one that branches, which share half of theirs; times of each that count."""
LONGEST_S = 8.0
"""No larger pack is tried once one takes longer."""
AT_ONCE, TOKENS_AT_ONCE, SAMPLING_STEPS = 32, 512, 5
"""Sequences of a sampling step and tokens of a pack, with which numbers of threads are compared."""
Key = TypeVar("Key", bound=Hashable)


def measured_passes(
    policy: TrainablePolicy, device: torch.device, *, vocabulary: int, most_tokens: int, say: Callable[[str], None]
) -> list[Pass]:
    """Forward and backward over plain and branching packs, whose tokens double up to `most_tokens`."""
    found: list[Pass] = []
    size = SMALLEST
    while size <= most_tokens:
        packs = [row_pack(size, vocabulary)]
        if policy.why_chains_only is None:
            packs.append(tree_pack(size, vocabulary))
        seconds = in_turns({pack.is_chain: one_pass(policy, pack) for pack in packs}, min, device)
        for pack in packs:
            taken = seconds[pack.is_chain]
            found.append(Pass(num_tokens=len(pack.token_ids), is_chain=pack.is_chain, seconds=taken))
            kind = "plain row" if pack.is_chain else "tree"
            say(f"  {len(pack.token_ids):>6,} tokens, {kind:<9} {taken:.4f} s")
        if max(seconds.values()) > LONGEST_S:
            break
        size *= 2
    return found


def threads_of_updates(policy: TrainablePolicy, numbers: list[int], *, vocabulary: int) -> dict[int, float]:
    """Seconds of a pass by the number of threads."""
    run = one_pass(policy, row_pack(TOKENS_AT_ONCE, vocabulary))
    return in_turns({num: with_threads(num, run) for num in numbers}, median)


def threads_of_sampling(model: Any, numbers: list[int], *, vocabulary: int) -> dict[int, float]:
    """Seconds of a sampling step of many sequences by the number of threads: of the model as transformers computes it,
    which splits its work among threads as every engine on a CPU does."""
    ids = torch.arange(AT_ONCE)[:, None] % vocabulary

    @torch.no_grad()
    def steps() -> None:
        for _ in range(SAMPLING_STEPS):
            model(input_ids=ids, use_cache=False)

    taken = in_turns({num: with_threads(num, steps) for num in numbers}, median)
    return {num: seconds / SAMPLING_STEPS for num, seconds in taken.items()}


def one_pass(policy: TrainablePolicy, pack: Pack) -> Callable[[], None]:
    """Forward and backward, as an update has them."""

    def run() -> None:
        policy.forward(pack).logp_E.sum().backward()  # type: ignore[no-untyped-call]
        policy.model.zero_grad(set_to_none=True)

    return run


def in_turns(
    runs: Mapping[Key, Callable[[], None]],
    one_of: Callable[[list[float]], float],
    device: torch.device | None = None,
) -> dict[Key, float]:
    """Seconds of each, one after the other in every round, behind a round that does not count; `one_of` its times."""
    taken: dict[Key, list[float]] = {key: [] for key in runs}
    for _ in range(ROUNDS + 1):
        for key, run in runs.items():
            begun = time.perf_counter()
            run()
            if device is not None and device.type == "cuda":
                torch.cuda.synchronize(device)
            taken[key].append(time.perf_counter() - begun)
    return {key: one_of(seconds[1:]) for key, seconds in taken.items()}


def with_threads(num: int, run: Callable[[], None]) -> Callable[[], None]:
    """The same with so many of torch's threads."""

    def limited() -> None:
        with torch_threads(num):
            run()

    return limited


def row_pack(num_tokens: int, vocabulary: int) -> Pack:
    """A plain row, half of it sampled."""
    return _one_pack([_row(num_tokens // 2, num_tokens - num_tokens // 2, vocabulary, number=0)])


def tree_pack(num_tokens: int, vocabulary: int) -> Pack:
    """Rows that share half of the pack's tokens, the other half sampled by each of them."""
    shared = num_tokens // 2
    each = (num_tokens - shared) // BRANCHES
    return _one_pack([_row(shared, each, vocabulary, number=number) for number in range(BRANCHES)])


def _row(num_shared: int, num_sampled: int, vocabulary: int, *, number: int) -> TrainingSample:
    # Ids do not matter, but for the first sampled ones, which tell rows apart.
    ids = [*range(num_shared), *(number + 1 + BRANCHES * k for k in range(num_sampled))]
    sampled = [False] * num_shared + [True] * num_sampled
    return TrainingSample(
        episode_key=("tune", number),
        agent_name="",
        target_tag="",
        token_ids=tuple(id % vocabulary for id in ids),
        loss_mask=tuple(sampled),
        logprobs=(0.0,) * len(ids),
        advantages=tuple(map(float, sampled)),
        calls=tuple(0 if one else -1 for one in sampled),
    )


def _one_pack(rows: list[TrainingSample]) -> Pack:
    total = sum(len(row.token_ids) for row in rows)
    (pack,) = build_packs(rows, [1.0] * len(rows), [""], max_tokens=total, costs=PackCosts(pair=0.0))
    return pack
