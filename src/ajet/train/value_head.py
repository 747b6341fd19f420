"""The value head of `credit=critic`: what a call's agent may expect, read from the trunk where the call's prompt ends.

    V = w[tag] . h / H + b[tag]

with h the trunk's last hidden state (H) at the position that predicts the call's first token. In float32, and 0 at
first. Each `target_tag` has a row: roles that play against each other expect opposite things of one text. By H the
head's rate means the same for every width, as in muP's output layer (Yang et al. 2022, arXiv 2203.03466): Adam moves
each weight by the rate, and so V by about the rate. Left out: targets, which credit gives.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from ajet.errors import AlgorithmError
from ajet.train.packing import Pack
from ajet.train.scoring import PackOutput

MOST_TAGS = 64
"""Rows, of which a run uses as many as it trains tags. Which these are may be known in play alone, and rows that are
not used stay 0."""


class ValueHead(nn.Module):
    """A linear output a tag."""

    def __init__(self, hidden_size: int, device: torch.device) -> None:
        """All values are 0."""
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(MOST_TAGS, hidden_size, device=device))
        self.bias = nn.Parameter(torch.zeros(MOST_TAGS, device=device))
        self.tags: list[str] = []
        """Those that have a row, in the order of rows."""

    def add_rows(self, tags: Sequence[str]) -> None:
        """Give rows to those of a step's tags that have none. Every rank must, whether or not it has any packs: ranks
        add up the gradients of their rows.

        Raises:
            AlgorithmError: there are more tags than rows.
        """
        for tag in tags:
            if tag not in self.tags:
                if len(self.tags) == MOST_TAGS:
                    raise AlgorithmError(f"credit=critic has values for {MOST_TAGS} tags, and {tag} is one more")
                self.tags.append(tag)

    @override
    def forward(self, output: PackOutput, pack: Pack, tags: Sequence[str]) -> Tensor:
        """Values of a pack's calls (C).

        Args:
            output: has hidden states of the trunk where their prompts end.
            pack: the calls.
            tags: what its tag indices mean; all of them have rows.
        """
        hidden_CH = output.hidden_CH
        assert hidden_CH is not None, "the scorer of a run with values tells them"
        rows = torch.tensor([self.tags.index(tag) for tag in tags], device=hidden_CH.device)
        row_C = rows[torch.from_numpy(pack.tags[pack.starts]).to(hidden_CH.device)]
        return (hidden_CH.float() * self.weight[row_C]).sum(-1) / self.weight.shape[1] + self.bias[row_C]


def value_loss(value_C: Tensor, pack: Pack) -> Tensor:
    """The sum over a pack's calls of (V - target)^2 / 2, each with its weight in the optimizer step."""
    assert pack.values is not None, "a run with a value head has targets"
    target_C, weight_C = (
        torch.from_numpy(numbers).to(value_C.device, torch.float32)
        for numbers in (pack.values.targets, pack.values.weights)
    )
    return (weight_C * (value_C - target_C).square()).sum() / 2
