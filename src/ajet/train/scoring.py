"""A model that says how likely the sampled tokens of a pack are: the policy being trained, or the one it is held to.

In: a transformers causal LM and packs. Out: a log-probability and an entropy for each entry of a pack, with gradients.
The choice how stands here alone: all logits of a pack where they are few, else `head.score_pieces`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from typing_extensions import override

from ajet.errors import ConfigError
from ajet.train.attention import attends_by_mask, pack_logits, run_pack
from ajet.train.exactness import measured_head, measured_why_chains_only, measured_why_no_blocks
from ajet.train.head import PIECE, PIECE_ON_GPU, Allowed, Head, last_hidden, score_pieces, score_whole
from ajet.train.lora import base_of
from ajet.train.packing import Pack
from ajet.train.sharding import shard


@dataclass(frozen=True, slots=True, kw_only=True)
class PackOutput:
    """What a forward pass says about a pack's entries."""

    logp_E: Tensor
    """log pi(target) at `rollout.temperature`, under its grammar if there was one, with gradient."""
    entropy_E: Tensor
    """Entropy of the predicting distribution; with gradient where it was asked for, or costs nothing."""
    hidden_CH: Tensor | None = None
    """The trunk's last hidden state where each call's prompt ends, with gradient; of scorers that tell it."""


class PackScorer:
    """A causal language model on its device, in the mode in which it was sampled from."""

    def __init__(
        self,
        model: Any,
        accelerator: Accelerator,
        *,
        temperature: float,
        sharded: bool = False,
        piece: int | None = None,
        blocks_from: int | None = None,
        tells_hidden: bool = False,
    ) -> None:
        """Measure how the model computes packs, and move it.

        Args:
            model: a transformers causal LM, with adapters or without.
            accelerator: device and precision.
            temperature: that rollouts are sampled at.
            sharded: whether each rank keeps a share of the model only; all of them then score equally often.
            piece: how many logits may exist at once, where the model's head allows it; None for what suits the device.
            blocks_from: tokens from which on a branching pack goes by FlexAttention, where the model allows it; None
                for never.
            tells_hidden: whether hidden states are told beside log-probabilities.

        Raises:
            ConfigError: the model does not model text from left to right, or does not say what its head is given.
        """
        self._accelerator = accelerator
        # Without dropout: the ratio of the new policy to the old must be 1 before the first update, and with it every
        # pass would give other log-probabilities than those that were sampled with. Gradients flow all the same.
        self.model = model.eval()
        # What is to be shared out may be too large for one device.
        device = torch.device("cpu") if sharded else accelerator.device
        self.model.to(device)
        self.why_chains_only = measured_why_chains_only(self.model, device)
        """Why packs must be plain rows for this model; None where they may branch."""
        self.why_no_blocks = None if blocks_from is None else self._why_no_blocks(device)
        """Why no pack goes by FlexAttention though it was asked for."""
        head = measured_head(self.model, device)
        if tells_hidden and head is None:
            raise ConfigError(
                "credit=critic puts a value head beside the model's own, and what a "
                f"{base_of(model).config.model_type} gives its head is not known: choose another credit"
            )
        self.hidden_size = 0 if head is None else head.linear.in_features
        """Of the hidden states that may be told; 0 where they are not known."""
        if piece is None:
            piece = PIECE if accelerator.device.type == "cpu" else PIECE_ON_GPU
        self._computed = _Computation(
            self.model,
            head,
            accelerator,
            temperature=temperature,
            piece=piece,
            blocks_from=None if self.why_no_blocks else blocks_from,
            tells_hidden=tells_hidden,
        )
        if sharded:
            shard(self._computed, accelerator.device.type)

    def _why_no_blocks(self, device: torch.device) -> str | None:
        if self.why_chains_only:
            return self.why_chains_only
        if reason := attends_by_mask(self.model):
            return reason
        # Shares are measured on the CPU, whose kernels are not those that will be used.
        return measured_why_no_blocks(self.model, device) if device == self._accelerator.device else None

    def score(self, pack: Pack, *, entropy_gradient: bool = False) -> PackOutput:
        """Log-probabilities and entropies of a pack's entries; the head runs on distinct predictors only.

        Raises:
            ValueError: the pack branches and the model's packs must not.
        """
        if self.why_chains_only and not pack.is_chain:
            raise ValueError(f"this pack branches, but {self.why_chains_only}: build packs with branches=False")
        logp_E, entropy_E, hidden_CH = self._computed(pack, entropy_gradient)
        return PackOutput(logp_E=logp_E, entropy_E=entropy_E, hidden_CH=hidden_CH)


class _Computation(nn.Module):
    """All that a model's weights take part in, as one module: whatever shares them out gathers them around its call."""

    def __init__(
        self,
        model: Any,
        head: Head | None,
        accelerator: Accelerator,
        *,
        temperature: float,
        piece: int,
        blocks_from: int | None,
        tells_hidden: bool,
    ) -> None:
        super().__init__()
        self.model = model
        self._head = head
        self._accelerator = accelerator
        self._temperature = temperature
        self._piece = piece
        self._blocks_from = blocks_from
        self._tells_hidden = tells_hidden

    @override
    def forward(self, pack: Pack, entropy_gradient: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        device = self._accelerator.device
        distinct_K, entry_E, allowed = predicting(pack, device)
        target_E = torch.from_numpy(pack.targets).to(device)
        head = self._head
        hidden_CH: Tensor | None = None
        with self._accelerator.autocast():
            in_pieces = head is not None and len(distinct_K) * head.linear.out_features > self._piece
            if head is not None and (in_pieces or self._tells_hidden):
                body = base_of(self.model).base_model
                hidden_UH = last_hidden(run_pack(body, pack, device, blocks_from=self._blocks_from))
                assert hidden_UH is not None, "a head was measured on it"
                if self._tells_hidden:
                    hidden_CH = hidden_UH[torch.from_numpy(pack.predictors[pack.starts]).to(device)]
                if in_pieces:
                    logp_E, entropy_E = score_pieces(
                        head,
                        hidden_UH[distinct_K],
                        entry_E,
                        target_E,
                        temperature=self._temperature,
                        piece=self._piece,
                        allowed=allowed,
                    )
                    return logp_E, entropy_E, hidden_CH
                logits_KV = head.logits_of_layer(hidden_UH[distinct_K])
            else:
                logits_KV = pack_logits(self.model, pack, distinct_K, blocks_from=self._blocks_from)
        logp_E, entropy_E = score_whole(
            logits_KV,
            entry_E,
            target_E,
            temperature=self._temperature,
            entropy_gradient=entropy_gradient,
            allowed=allowed,
        )
        return logp_E, entropy_E, hidden_CH


def predicting(pack: Pack, device: torch.device) -> tuple[Tensor, Tensor, Allowed | None]:
    """The K nodes with a distribution to compute, which of these each entry is drawn from, and what they allow.

    Entries of one node share its distribution, unless different ids were allowed: then the node stands there once for
    each mask.
    """
    predictors_E = torch.from_numpy(pack.predictors)
    if pack.masks is None:
        distinct_K, entry_E = torch.unique(predictors_E, return_inverse=True)
        return distinct_K.to(device), entry_E.to(device), None
    pairs_E2 = torch.stack([predictors_E, torch.from_numpy(pack.masks.of_entries)], dim=1)
    pairs_K2, entry_E = torch.unique(pairs_E2, dim=0, return_inverse=True)
    allowed = Allowed(torch.from_numpy(pack.masks.words).to(device), pairs_K2[:, 1].to(device))
    return pairs_K2[:, 0].to(device), entry_E.to(device), allowed
