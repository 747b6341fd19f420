"""Every call of a step, in packs of its own: for what must be known of calls before they are credited.

In: a step's groups, and a question about packs. Out: an answer a call. Each process asks for its share of the packs,
and all of them have all answers. Left out: what is asked, and what credit makes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from ajet.config.root import Config
from ajet.records import Call, CallKey, EpisodeGroup
from ajet.train.masks import ReplyMasks, row_masks
from ajet.train.packing import Pack, build_packs, shared_out
from ajet.train.ranks import Ranks
from ajet.train.timeline import build_samples

Answer = TypeVar("Answer")
Question = Callable[[Sequence[Pack], Sequence[str]], Sequence[tuple[CallKey, Answer]]]
"""(packs, what their tag indices mean) -> an answer for each of their calls."""


def trained_calls(groups: Sequence[EpisodeGroup], *, mask_truncated: bool) -> dict[CallKey, Call]:
    """All that the policy said in usable episodes.

    Args:
        groups: of the step.
        mask_truncated: whether cut replies are left out.
    """
    return {
        (episode.task.task_id, episode.repeat, call.index): call
        for group in groups
        for episode in group.episodes
        if episode.usable
        for call in episode.calls
        if call.trained and call.sampled_ids and not (mask_truncated and call.finish_reason == "length")
    }


def ask_of_every_call(
    question: Question[Answer],
    groups: Sequence[EpisodeGroup],
    ranks: Ranks,
    config: Config,
    *,
    mask_truncated: bool,
    branches: bool,
    reply_masks: ReplyMasks | None,
) -> dict[CallKey, Answer]:
    """Put the calls' rows into packs, and ask about them.

    Args:
        question: asked once by each process, for its packs.
        groups: of all ranks.
        ranks: the processes of the run.
        config: what decides which rows share a pack.
        mask_truncated: whether cut replies are left out.
        branches: whether packs may branch.
        reply_masks: gives those of replies that were sampled under grammars; None where there are none.

    Returns:
        The answers of `trained_calls`; the same on every rank.

    Raises:
        EngineError: a reply does not keep to its grammar.
    """
    rows = [
        row
        for group in groups
        for episode in group.episodes
        if episode.usable
        for row in build_samples(
            episode,
            {call.index: [0.0] * len(call.sampled_ids) for call in episode.calls},  # nothing has an advantage yet
            mask_truncated=mask_truncated,
        )
    ]
    tags = sorted({row.target_tag for row in rows})
    packs = build_packs(
        rows,
        [0.0] * len(rows),
        tags,
        max_tokens=config.algorithm.max_pack_tokens,
        branches=branches,
        costs=config.hardware.costs,
        masks=None if reply_masks is None else row_masks(rows, groups, reply_masks),
    )
    own = shared_out(packs, ranks.size, config.hardware.costs)[ranks.rank]
    return dict(ranks.together(lambda: question(own, tags)))
