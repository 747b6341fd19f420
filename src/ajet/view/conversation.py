"""One episode as a reader sees it: what each call added to what its agent knew, token by token, as a tree. Pure.

In: the calls of an episode, as `Run.texts` gives them. Out: plain records for the pages. Every text is as the model or
the program wrote it; escaping is the pages' part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from tokenizers import Tokenizer

from ajet.analysis.tokens import token_texts
from ajet.tracking.text import message_text
from ajet.train.timeline import PrefixTree, build_tree

NUM_SHADES = 10
"""Probabilities are shown in tenths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a request."""

    role: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownCall:
    """One call: what its agent had not been told before, and what it said."""

    index: int
    agent: str
    tag: str
    trained: bool
    reply: str
    told: Sequence[Message]
    """The request's messages that do not repeat the agent's earlier request and reply."""
    repeated: Sequence[Message]
    """Those that do."""
    format_error: str | None
    reward: float | None
    call_reward: float | None
    """What this reply was given by itself; None in runs of earlier versions."""
    advantage: float | None
    policy_version: int | None
    num_prompt: int
    num_sampled: int


def turns_of(calls: pd.DataFrame) -> list[ShownCall]:
    """An episode's calls in order, each with the messages that its agent had not seen in an earlier call."""
    turns, known = [], dict[str, Sequence[Message]]()
    for _, call in calls.iterrows():
        messages = [_message(message) for message in call["messages"]]
        earlier = known.get(call["agent"], ())
        num_known = _num_shared(messages, earlier)
        if earlier and num_known == len(earlier) < len(messages) and messages[num_known].role == "assistant":
            num_known += 1  # its own last reply, however the program writes it down
        known[call["agent"]] = messages
        turns.append(
            ShownCall(
                index=int(call["call_index"]),
                agent=call["agent"],
                tag=call["tag"],
                trained=bool(call["trained"]),
                reply=call["reply"],
                told=messages[num_known:],
                repeated=messages[:num_known],
                format_error=None if pd.isna(call["format_error"]) else call["format_error"],
                reward=_number(call["reward"]),
                call_reward=_number(call["call_reward"]),
                advantage=_number(call["advantage"]),
                policy_version=None if pd.isna(call["policy_version"]) else int(call["policy_version"]),
                num_prompt=len(call["prompt_ids"]),
                num_sampled=len(call["sampled_ids"]),
            )
        )
    return turns


def _message(message: Mapping[str, Any]) -> Message:
    return Message(role=str(message.get("role", "")), text=message_text(message))


def _num_shared(one: Sequence[object], other: Sequence[object]) -> int:
    """How many items two sequences have in common at their beginning."""
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _number(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One token of a call."""

    place: int
    """From 0, prompt and reply together."""
    token_id: int
    text: str
    logprob: float | None = None
    """In nats, under the distribution that it was sampled from; None in the prompt."""

    @property
    def probability(self) -> float | None:
        """Of the token when it was sampled, 0 to 1; None in the prompt, which was not sampled."""
        return None if self.logprob is None else math.exp(self.logprob)

    @property
    def shade(self) -> int:
        """Its probability in tenths, 0 to 9."""
        return min(NUM_SHADES - 1, int(NUM_SHADES * (self.probability or 0.0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTokens:
    """The tokens of one call, in the order in which the model read them."""

    shared: Sequence[Token]
    """Those that an earlier call of the episode begins with, too."""
    shared_with: int | None
    """The index of that call."""
    prompt: Sequence[Token]
    sampled: Sequence[Token]

    @property
    def logprob(self) -> float:
        """Of the whole reply, in nats."""
        return math.fsum(token.logprob or 0.0 for token in self.sampled)


def tokens_of(calls: pd.DataFrame, place: int, tokenizer: Tokenizer | None) -> CallTokens:
    """The tokens of the `place`-th call, and what it shares with those before it."""
    rows = _token_rows(calls)
    call, row = calls.iloc[place], rows[place]
    shares = [(_num_shared(row, earlier), number) for number, earlier in enumerate(rows[:place])]
    # Of equals the latest; prompts that begin alike by chance of a first token are told too.
    num_shared, partner = max(shares, default=(0, 0))
    num_prompt = len(call["prompt_ids"])
    num_shared = min(num_shared, num_prompt)
    texts = token_texts(row, tokenizer)
    logprobs = [None] * num_prompt + [float(value) for value in call["logprobs"]]
    tokens = [
        Token(place=number, token_id=token_id, text=text, logprob=logprob)
        for number, (token_id, text, logprob) in enumerate(zip(row, texts, logprobs, strict=True))
    ]
    return CallTokens(
        shared=tokens[:num_shared],
        shared_with=int(calls.iloc[partner]["call_index"]) if num_shared else None,
        prompt=tokens[num_shared:num_prompt],
        sampled=tokens[num_prompt:],
    )


def _token_rows(calls: pd.DataFrame) -> list[list[int]]:
    """Prompt and reply of every call; empty for calls without tokens."""
    pairs = zip(calls["prompt_ids"], calls["sampled_ids"], strict=True)
    return [[int(token_id) for ids in pair for token_id in ids] for pair in pairs]


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchPath:
    """One of the ways on from a fork.

    Example: two calls part after what they share; `BranchPath(fork=1, number=2, num_paths=2)` begins the second.
    """

    fork: int
    """Counted from 1 in the order of the page."""
    number: int
    """From 1."""
    num_paths: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSpan:
    """A span of the prefix tree without forks."""

    text: str
    num_tokens: int
    calls: Sequence[int]
    """The calls that run through it, by index."""
    depth: int
    """The forks above it."""
    path: BranchPath | None
    """None where it continues the span before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeView:
    """The prefix tree of an episode's trained calls: what training computes once."""

    spans: Sequence[TokenSpan]
    """Each before those below it."""
    num_tokens: int
    """Of all its calls."""
    num_unique: int
    """Nodes of the tree."""


def tree_of(calls: pd.DataFrame, tokenizer: Tokenizer | None) -> TreeView:
    """The tree over the calls that have tokens."""
    rows = _token_rows(calls)
    spoken = [(int(index), row) for index, row in zip(calls["call_index"], rows, strict=True) if row]
    tree = build_tree([row for _, row in spoken])
    through: list[list[int]] = [[] for _ in tree.token_ids]
    for (index, _), nodes in zip(spoken, tree.row_nodes, strict=True):
        for node in nodes:
            through[node].append(index)
    return TreeView(
        spans=_spans(tree, through, tokenizer),
        num_tokens=sum(len(row) for _, row in spoken),
        num_unique=len(tree.token_ids),
    )


def _spans(tree: PrefixTree, through: Sequence[Sequence[int]], tokenizer: Tokenizer | None) -> list[TokenSpan]:
    """Depth first, by a list of what waits: the calls of a long game lie deeper than functions may call themselves."""
    children: dict[int, list[int]] = {}
    for node, parent in enumerate(tree.parents):
        children.setdefault(parent, []).append(node)
    separator = "" if tokenizer is not None else " "
    found: list[TokenSpan] = []
    num_forks, last, depth = 0, -1, 0
    waiting: list[tuple[int, int, BranchPath | None]] = []
    while True:
        after = children.get(last, [])
        if len(after) > 1:
            num_forks += 1
            paths = [
                BranchPath(fork=num_forks, number=number, num_paths=len(after)) for number in range(1, len(after) + 1)
            ]
            waiting += reversed([(node, depth + 1, path) for node, path in zip(after, paths, strict=True)])
        else:
            waiting += [(node, depth, None) for node in after]
        if not waiting:
            return found
        first, depth, path = waiting.pop()
        nodes = [first]
        # A call that ends where another continues makes a new span, too.
        while len(after := children.get(nodes[-1], [])) == 1 and len(through[after[0]]) == len(through[first]):
            nodes.append(after[0])
        last = nodes[-1]
        text = separator.join(token_texts([tree.token_ids[node] for node in nodes], tokenizer))
        found.append(TokenSpan(text=text, num_tokens=len(nodes), calls=through[first], depth=depth, path=path))
