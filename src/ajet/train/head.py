"""The output head in pieces: log-probabilities and entropies of sampled tokens without all of their logits at once.

In: hidden states of the tokens that predict, the head, the sampled ids. Out: two numbers a sampled token, with
gradients. With a vocabulary of 150,000 the logits of 8,000 tokens take 4.9 GB, and a log-softmax with its gradient
four times that; here a piece of them exists at a time, and backward computes it again. Left out: which tokens are
trained on.

A transformers model has no name for what it does between its last hidden state and its logits. What is known of it (a
linear layer, a constant factor, a bound by tanh) is read from the model and its configuration, and measured once
against the logits that the model itself gives: `find_head` answers None where they differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ajet.engine.grammars import masked
from ajet.train.lora import base_of
from ajet.train.onednn import OneDnnLinear, times_transposed

PIECE, PIECE_ON_GPU = 1 << 24, 1 << 26
"""Logits that are computed at once, a whole row at least: 64 MiB in float32, and about three times that at the peak. On
an H100 four times as many made an update of Qwen3 0.6B with 4,096 sampled tokens a fifth faster; more gained little."""
_CLOSE = {torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.02}
"""How far logits may differ by rounding, as a share of their largest."""


@dataclass(frozen=True, slots=True)
class Head:
    """logits = bound(factor * linear(hidden)), where bound(z) = cap * tanh(z / cap)."""

    linear: nn.Linear
    factor: float = 1.0
    cap: float | None = None

    def logits(self, hidden_KH: Tensor) -> Tensor:
        """[K, V]: what the model gives for these hidden states."""
        # Not by calling the layer: hooks on it are nothing that pieces could see, and must show when it is measured.
        return self._bounded(nn.functional.linear(hidden_KH, self.linear.weight, self.linear.bias))

    def logits_of_layer(self, hidden_KH: Tensor) -> Tensor:
        """The same by calling the layer, whose product may be one that suits the machine."""
        return self._bounded(self.linear(hidden_KH))

    def _bounded(self, raw_KV: Tensor) -> Tensor:
        scaled_KV = raw_KV.float() * self.factor
        return scaled_KV if self.cap is None else self.cap * torch.tanh(scaled_KV / self.cap)


class Allowed:
    """The ids that may be drawn from each of K distributions: a row of words of 32 ids' bits, or all of them."""

    def __init__(self, words_MW: Tensor, of_K: Tensor) -> None:
        """M distinct masks, and for each distribution which holds; -1: every id is allowed."""
        everything_1W = torch.full_like(words_MW[:1], -1)
        self._words = torch.cat([words_MW, everything_1W])  # at the end, where -1 points
        self._of_K = of_K

    def only(self, logits_KV: Tensor, first: int = 0) -> Tensor:
        """The logits of the distributions from `first` on, those of other ids so low that nothing is left of them."""
        return masked(logits_KV, self._words[self._of_K[first : first + len(logits_KV)]])


@torch.no_grad()
def find_head(model: Any, ids_T: Tensor) -> Head | None:
    """The model's head, if it is what `Head` says; None where it is something else.

    Args:
        model: a transformers causal LM, with adapters or without.
        ids_T: a few token ids on its device, to measure with.
    """
    base = base_of(model)
    linear, config = base.get_output_embeddings(), base.config.get_text_config()
    # Not a subclass: adapters and quantization wrap the layer, and its weight alone would be another head.
    if type(linear) not in (nn.Linear, OneDnnLinear) or base.base_model is base:
        return None
    factor = getattr(config, "logit_scale", None) or 1.0 / (getattr(config, "logits_scaling", None) or 1.0)
    head = Head(linear, float(factor), getattr(config, "final_logit_softcapping", None))
    hidden_TH = last_hidden(base.base_model(input_ids=ids_T[None], use_cache=False))
    if hidden_TH is None or hidden_TH.shape[-1] != linear.in_features:
        return None
    asked_TV = model(input_ids=ids_T[None], use_cache=False).logits[0].float()
    found_TV = head.logits(hidden_TH)
    close = _CLOSE.get(linear.weight.dtype, 0.0) * float(asked_TV.abs().max())
    return head if float((found_TV - asked_TV).abs().max()) <= close else None


def last_hidden(output: Any) -> Tensor | None:
    """[T, H]: of the one text in a transformers output; None where it says nothing of the kind."""
    hidden_BTH = getattr(output, "last_hidden_state", None)
    return None if hidden_BTH is None else hidden_BTH[0]


def score_pieces(
    head: Head,
    hidden_KH: Tensor,
    entry_E: Tensor,
    target_E: Tensor,
    *,
    temperature: float,
    piece: int = PIECE,
    allowed: Allowed | None = None,
) -> tuple[Tensor, Tensor]:
    """log pi(target) and the entropy of pi for E entries, as `score_whole` gives them, `piece` logits at a time.

    Args:
        head: the model's.
        hidden_KH: hidden states of K tokens that predict something.
        entry_E: for each entry, in any order, which of the K predicts it.
        target_E: the id that was sampled.
        temperature: that logits are divided by.
        piece: logits at a time; no less than a row.
        allowed: the ids that each distribution is over; None for all.

    Returns:
        Two float32 tensors of E values, in nats.
    """
    linear = head.linear
    logp_E, entropy_K = _Pieces.apply(  # type: ignore[no-untyped-call]
        hidden_KH,
        linear.weight,
        linear.bias,
        entry_E,
        target_E,
        head,
        temperature,
        max(1, piece // len(linear.weight)),
        allowed,
    )
    return logp_E, entropy_K[entry_E]


def score_whole(
    logits_KV: Tensor,
    entry_E: Tensor,
    target_E: Tensor,
    *,
    temperature: float,
    entropy_gradient: bool,
    allowed: Allowed | None = None,
) -> tuple[Tensor, Tensor]:
    """log pi(target) and the entropy of pi for E entries, from all logits: plain, and quickest where they are few.

    Args:
        logits_KV: of K tokens that predict something.
        entry_E, target_E, temperature, allowed: as for `score_pieces`.
        entropy_gradient: whether the entropy is to have one; its graph holds more tensors of the logits' size.
    """
    # Tempered as sampling is: what is trained on must be the distribution that was sampled from, and the engine's
    # log-probabilities, which these are compared with, are those after temperature. In float32, whatever the model
    # computes in, since a ratio is the exponential of a small difference.
    logp_KV = _log_softmax(logits_KV.float() / temperature, allowed)
    with torch.set_grad_enabled(torch.is_grad_enabled() and entropy_gradient):
        entropy_K = -(logp_KV.exp() * logp_KV).sum(-1)
    return logp_KV[entry_E, target_E], entropy_K[entry_E]


def _log_softmax(z_KV: Tensor, allowed: Allowed | None, first: int = 0) -> Tensor:
    return torch.log_softmax(z_KV if allowed is None else allowed.only(z_KV, first), dim=-1)


class _Pieces(torch.autograd.Function):
    """(hidden, weight, bias) -> (log-probabilities E, entropies K); backward computes the logits once more.

    With p the softmax of z = bound(factor * (h W' + b)) / temperature over the ids that are allowed, and H its entropy:
    d logp_t / dz_j = [j = t] - p_j  and  dH / dz_j = -p_j (log p_j + H).
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_KH: Tensor,
        weight_VH: Tensor,
        bias_V: Tensor | None,
        entry_E: Tensor,
        target_E: Tensor,
        head: Head,
        temperature: float,
        rows: int,
        allowed: Allowed | None,
    ) -> tuple[Tensor, Tensor]:
        # Autocast is off inside; what it would have computed in is kept for backward, where it is not known any more.
        kind = hidden_KH.device.type
        ctx.dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight_VH.dtype
        ctx.head, ctx.temperature, ctx.rows, ctx.allowed = head, temperature, rows, allowed
        order_E = torch.argsort(entry_E, stable=True)
        logp_E = torch.empty(len(entry_E), device=hidden_KH.device)
        entropy_K = torch.empty(len(hidden_KH), device=hidden_KH.device)
        for first, last, mine_E in _pieces(entry_E[order_E], order_E, len(hidden_KH), rows):
            # Not logits less their log-sum: of logits that are large, as a low temperature makes them, both are, and
            # what is left of their difference has lost digits, thirty times as many as this has.
            logp_KV = _log_softmax(_tempered(ctx, hidden_KH[first:last], weight_VH, bias_V), allowed, first)
            logp_E[mine_E] = logp_KV[entry_E[mine_E] - first, target_E[mine_E]]
            entropy_K[first:last] = -torch.linalg.vecdot(torch.exp(logp_KV), logp_KV)
        ctx.save_for_backward(hidden_KH, weight_VH, bias_V, entry_E, target_E, order_E, entropy_K)
        return logp_E, entropy_K

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        grad_logp_E, grad_entropy_K = gradients
        hidden_KH, weight_VH, bias_V, entry_E, target_E, order_E, entropy_K = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]
        grad_hidden = torch.empty_like(hidden_KH) if wanted[0] else None
        grad_weight = torch.zeros_like(weight_VH) if wanted[1] else None
        grad_bias = torch.zeros_like(bias_V) if wanted[2] and bias_V is not None else None
        sum_K = torch.zeros_like(entropy_K).index_add_(0, entry_E, grad_logp_E)
        for first, last, mine_E in _pieces(entry_E[order_E], order_E, len(hidden_KH), ctx.rows):
            z_KV = _tempered(ctx, hidden_KH[first:last], weight_VH, bias_V)
            logp_KV = _log_softmax(z_KV, ctx.allowed, first)
            of_entropy_K, row_E = grad_entropy_K[first:last], entry_E[mine_E] - first
            # -p (sum of the entries' gradients + the entropy's (log p + H)), and 1 at each sampled id.
            pull_KV = (logp_KV + entropy_K[first:last, None]).mul_(of_entropy_K[:, None]).add_(sum_K[first:last, None])
            grad_KV = logp_KV.exp_().mul_(pull_KV).neg_()
            grad_KV.index_put_((row_E, target_E[mine_E]), grad_logp_E[mine_E], accumulate=True)
            if ctx.head.cap is not None:
                grad_KV.mul_(1 - (z_KV * (ctx.temperature / ctx.head.cap)).square_())
            grad_KV = grad_KV.mul_(ctx.head.factor / ctx.temperature).to(ctx.dtype)
            if grad_hidden is not None:
                grad_hidden[first:last] = _product(ctx.head, grad_KV, weight_VH.to(ctx.dtype).T)
            if grad_weight is not None:
                grad_weight += _product(ctx.head, grad_KV.T, hidden_KH[first:last].to(ctx.dtype).T)
            if grad_bias is not None:
                grad_bias += grad_KV.sum(0)
        return grad_hidden, grad_weight, grad_bias, None, None, None, None, None, None


def _pieces(sorted_entry_E: Tensor, order_E: Tensor, num: int, rows: int) -> list[tuple[int, int, Tensor]]:
    """Pieces of `rows` of `num` hidden states: first, one behind the last, and the entries that they predict."""
    firsts = range(0, num, rows)
    cuts = torch.searchsorted(sorted_entry_E, torch.tensor([*firsts, num], device=sorted_entry_E.device)).tolist()
    return [(first, min(first + rows, num), order_E[cuts[i] : cuts[i + 1]]) for i, first in enumerate(firsts)]


def _tempered(ctx: Any, hidden_KH: Tensor, weight_VH: Tensor, bias_V: Tensor | None) -> Tensor:
    """[rows, V] float32: `Head.logits` over the temperature, in one tensor's memory."""
    bias = None if bias_V is None else bias_V.to(ctx.dtype)
    head: Head = ctx.head
    raw_KV = _product(head, hidden_KH.to(ctx.dtype), weight_VH.to(ctx.dtype), bias).float()
    scaled_KV = raw_KV.mul_(head.factor)
    bounded_KV = scaled_KV if head.cap is None else scaled_KV.div_(head.cap).tanh_().mul_(head.cap)
    return bounded_KV.div_(ctx.temperature)


def _product(head: Head, a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """a [.., K] times the transpose of b [N, K], as the head's own layer multiplies."""
    return times_transposed(a, b) if type(head.linear) is OneDnnLinear else nn.functional.linear(a, b, bias)
