"""Measures, before the first step, whether a model computes packs as it computes plain rows.

In: the model to train. Out: whether its packs may branch, or a refusal. The list of known model types decides first;
this finds out where transformers, a setting of the checkpoint or a wrapper make the list wrong. Two rows of a few
tokens that share a prefix are computed plainly, cut short, and packed: short forward passes; longer ones where packs
may go by FlexAttention, which is held against the dense mask. Left out: whether the
engine agrees with the trainer, which `policy/max_logprob_gap` says in every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ajet.config.hardware import BLOCK, PackCosts
from ajet.errors import ConfigError
from ajet.records import TrainingSample
from ajet.train.attention import pack_logits, why_chains_only
from ajet.train.head import Head, find_head
from ajet.train.lora import base_of
from ajet.train.packing import Pack, build_packs
from ajet.train.timeline import build_tree

SHARED, BRANCH = 6, 5
"""Tokens that the two rows share, and those that they do not."""
SHARED_OF_BLOCKS, BRANCH_OF_BLOCKS, NUM_OF_BLOCKS = BLOCK // 4, BLOCK // 2, 5
"""Likewise where FlexAttention is measured, and its rows: a pack of three blocks, not all of which see each other."""
FINE, COARSE = (1e-5, 0.01), (0.02, 0.1)
"""What passes as rounding in float32 and in coarser formats: nats, and a share of what a wrong context makes out. A
trained model's log-probabilities move by several nats in a wrong context, a fresh one's by a thousandth."""


@torch.no_grad()
def measured_why_chains_only(model: Any, device: torch.device) -> str | None:
    """Why the packs of a model on `device` may not branch, by what is known and by measurement; None where they may.

    Raises:
        ConfigError: not even plain rows are computed from left to right.
    """
    config = base_of(model).config.get_text_config()
    rows = _rows(config.vocab_size)
    plain = [_logp(model(input_ids=torch.tensor([row], device=device), use_cache=False).logits[0]) for row in rows]
    branching = _pack(rows)
    nodes = build_tree(rows).row_nodes

    def gap(packed_UV: Tensor) -> float:
        """The largest difference at any token of a row."""
        return max(
            float((packed_UV[list(path)] - row_TV).abs().max()) for path, row_TV in zip(nodes, plain, strict=True)
        )

    # Both rows as one text: what a model gives that heeds neither masks nor positions.
    as_one = model(input_ids=torch.from_numpy(branching.token_ids)[None].to(device), use_cache=False).logits[0]
    floor, share = FINE if next(model.parameters()).dtype == torch.float32 else COARSE
    tolerance = floor + share * gap(_logp(as_one))

    for length in (SHARED + 1, SHARED + BRANCH):
        logp = _logp(_all_logits(model, _pack([rows[0][:length]]), device))
        difference = float((logp - plain[0][:length]).abs().max())
        if not difference <= tolerance:  # NaN is refused, too
            raise ConfigError(
                f"a model of type {config.model_type} cannot be trained: what it says at a token changes by "
                f"{difference:.2g} nats with what comes behind, so it does not model text from left to right"
            )
    if reason := why_chains_only(model):
        return reason
    difference = gap(_logp(_all_logits(model, branching, device)))
    return (
        None if difference <= tolerance else f"a branching pack of {config.model_type} is off by {difference:.2g} nats"
    )


@torch.no_grad()
def measured_why_no_blocks(model: Any, device: torch.device) -> str | None:
    """Why the packs of a model that `attends_by_mask` may not go by FlexAttention, by comparison with the dense mask;
    None where they may."""
    config = base_of(model).config.get_text_config()
    pack = _pack(_rows(config.vocab_size, shared=SHARED_OF_BLOCKS, branch=BRANCH_OF_BLOCKS, num_rows=NUM_OF_BLOCKS))
    # As if branches did not see what they begin with: what a wrong mask makes out.
    cut = replace(pack, parents=np.where(pack.parents == np.arange(-1, len(pack.parents) - 1), pack.parents, -1))
    dense, blocks, wrong = (
        _logp(_all_logits(model, one, device, blocks_from=blocks_from))
        for one, blocks_from in ((pack, None), (pack, 0), (cut, None))
    )
    difference = float((blocks - dense).abs().max())
    floor, share = FINE if next(model.parameters()).dtype == torch.float32 else COARSE
    if difference <= floor + share * float((wrong - dense).abs().max()):
        return None
    return f"FlexAttention of {config.model_type} is off by {difference:.2g} nats"


def measured_head(model: Any, device: torch.device) -> Head | None:
    """The head of a model on `device` for computing in pieces, measured on a few tokens; None where it is unknown."""
    row = _rows(base_of(model).config.get_text_config().vocab_size)[0]
    return find_head(model, torch.tensor(row, device=device))


def _rows(vocab_size: int, *, shared: int = SHARED, branch: int = BRANCH, num_rows: int = 2) -> list[tuple[int, ...]]:
    """Rows that share a prefix; ids from the middle of the vocabulary, where no padding or image tokens are."""
    first, num = vocab_size // 4, max(2, vocab_size // 4)

    def ids(start: int, count: int) -> tuple[int, ...]:
        return tuple(first + (start + 7919 * k * k) % num for k in range(count))

    return sorted(ids(0, shared) + ids(1 + other, branch) for other in range(num_rows))


def _pack(rows: Sequence[tuple[int, ...]]) -> Pack:
    samples = [
        TrainingSample(
            episode_key=("exactness", i),
            agent_name="",
            target_tag="",
            token_ids=row,
            loss_mask=(False, *[True] * (len(row) - 1)),
            logprobs=(0.0,) * len(row),
            advantages=(0.0,) * len(row),
            calls=(-1, *[0] * (len(row) - 1)),
        )
        for i, row in enumerate(rows)
    ]
    (pack,) = build_packs(samples, [1.0] * len(rows), [""], max_tokens=sum(map(len, rows)), costs=PackCosts(pair=0.0))
    return pack


def _all_logits(model: Any, pack: Pack, device: torch.device, *, blocks_from: int | None = None) -> Tensor:
    return pack_logits(model, pack, torch.arange(len(pack.token_ids), device=device), blocks_from=blocks_from)


def _logp(logits_TV: Tensor) -> Tensor:
    return torch.log_softmax(logits_TV.float(), dim=-1)
