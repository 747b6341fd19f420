"""Calls -> training rows -> prefix tree, by token ids alone. Pure.

In: an episode's calls. Out: rows (`TrainingSample`) in which calls that continue each other are joined, and a tree
over rows in which every shared prefix stands once. Neither step changes what is trained: the same tokens, masks and
weights come out, however a conversation was cut into calls. Left out: budgets and costs (that is packing's).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ajet.records import Call, Episode, TrainingSample


def build_samples(
    episode: Episode, advantages: Mapping[int, Sequence[float]], *, mask_truncated: bool = False
) -> list[TrainingSample]:
    """The rows of one episode.

    Args:
        episode: its trained calls are used, each agent's in their order.
        advantages: by index of the call, one for each token that it sampled.
        mask_truncated: whether calls that were cut (finish reason `length`) are left out: they make no rows, and stand
            in others only as what later calls saw.

    Returns:
        Rows; each sampled token of these calls is masked in exactly one of them.
    """
    rows: list[_OpenRow] = []
    for call in episode.calls:
        left_out = mask_truncated and call.finish_reason == "length"
        if call.trained and call.sampled_ids and not left_out:
            _extend_or_start(rows, call, advantages[call.index])
    return [
        TrainingSample(
            episode_key=(episode.task.task_id, episode.repeat),
            agent_name=row.agent_name,
            target_tag=row.target_tag,
            token_ids=tuple(row.ids),
            loss_mask=tuple(row.mask),
            logprobs=tuple(row.logprobs),
            advantages=tuple(row.advantages),
            calls=tuple(row.calls),
        )
        for row in rows
    ]


@dataclass(slots=True)
class _OpenRow:
    agent_name: str
    target_tag: str
    ids: list[int]
    mask: list[bool]
    logprobs: list[float]
    advantages: list[float]
    calls: list[int]

    def append(self, call: Call, advantages: Sequence[float]) -> None:
        """Add the call's part that is new to the row."""
        gap = call.prompt_ids[len(self.ids) :]
        num = len(call.sampled_ids)
        self.ids += [*gap, *call.sampled_ids]
        self.mask += [False] * len(gap) + [True] * num
        self.logprobs += [0.0] * len(gap) + list(call.logprobs)
        self.advantages += [0.0] * len(gap) + list(advantages)
        self.calls += [-1] * len(gap) + [call.index] * num


def _extend_or_start(rows: list[_OpenRow], call: Call, advantages: Sequence[float]) -> None:
    for row in reversed(rows):
        num = len(row.ids)
        if row.agent_name == call.agent_name and list(call.prompt_ids[:num]) == row.ids:
            row.append(call, advantages)
            return
    row = _OpenRow(call.agent_name, call.target_tag, [], [], [], [], [])
    row.append(call, advantages)
    rows.append(row)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixTree:
    """A trie over rows of ids: N nodes, parents before children, roots with parent -1.

    Example: rows (5, 6, 7) and (5, 6, 9) make token_ids (5, 6, 7, 9), parents (-1, 0, 1, 1), depths (0, 1, 2, 2)
    and row_nodes ((0, 1, 2), (0, 1, 3)).
    """

    token_ids: tuple[int, ...]
    parents: tuple[int, ...]
    depths: tuple[int, ...]
    row_nodes: tuple[tuple[int, ...], ...]
    """For each row, the node of each of its tokens."""


def build_tree(rows: Sequence[Sequence[int]]) -> PrefixTree:
    """The trie of `rows`."""
    token_ids: list[int] = []
    parents: list[int] = []
    depths: list[int] = []
    children: dict[tuple[int, int], int] = {}
    row_nodes = []
    for row in rows:
        node, nodes = -1, []
        for depth, token_id in enumerate(row):
            child = children.get((node, token_id))
            if child is None:
                child = len(token_ids)
                children[node, token_id] = child
                token_ids.append(token_id)
                parents.append(node)
                depths.append(depth)
            node = child
            nodes.append(node)
        row_nodes.append(tuple(nodes))
    return PrefixTree(
        token_ids=tuple(token_ids), parents=tuple(parents), depths=tuple(depths), row_nodes=tuple(row_nodes)
    )
