"""Fit a small causal language model to rows: the supervised half of the recipe.

In: rows of token ids with a weight for each token. Out: trained weights, the same for the same rows and seed. Progress
is saved every so often, so a fit that was cut off goes on where it was. Left out: where rows come from.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

Row = tuple[tuple[int, ...], tuple[float, ...]]
"""Token ids, and the weight of predicting each of them (0 for the first)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """Length and rate of a fit."""

    num_steps: int
    tokens_per_step: int
    """Padded tokens in a batch."""
    learning_rate: float
    warmup_steps: int
    save_every: int
    seed: int


def fit(model: Any, stages: Sequence[tuple[float, list[Row]]], settings: FitSettings, progress: Path) -> float:
    """Train in place.

    Args:
        model: a transformers causal LM on the CPU.
        stages: (share of the steps up to which this stage lasts, its rows); the last share is 1.
        settings: length and rate.
        progress: where the state is saved; a state that lies there is gone on from.

    Returns:
        The mean weighted loss over the last tenth of the steps.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.95), weight_decay=0.01, fused=True
    )
    first, losses = 0, []
    if progress.exists():
        state = torch.load(progress, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first, losses = state["step"], state["losses"]
    model.train()
    for step in range(first, settings.num_steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * _rate(step, settings)
        rows = next(rows for share, rows in stages if step < share * settings.num_steps)
        loss = _weighted_loss(model, _batch(rows, step, settings))
        torch.autograd.backward([loss])
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
        if (step + 1) % settings.save_every == 0:
            print(f"fit {step + 1}/{settings.num_steps} loss {sum(losses[-50:]) / len(losses[-50:]):.4f}", flush=True)
            _save(progress, model, optimizer, step + 1, losses)
    tail = losses[-max(1, settings.num_steps // 10) :]
    return sum(tail) / len(tail)


def _rate(step: int, settings: FitSettings) -> float:
    """Linear warm-up, then a cosine to a twentieth."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(1, settings.num_steps - settings.warmup_steps)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done))


def _batch(rows: list[Row], step: int, settings: FitSettings) -> list[Row]:
    """Rows of like length up to the budget, drawn by the step's own generator."""
    rng = random.Random(f"{settings.seed}/{step}")
    middle = rng.randrange(len(rows))
    longest = len(rows[middle][0])
    # Rows lie sorted by length, so neighbours pad little.
    num = max(1, settings.tokens_per_step // longest)
    window = rows[max(0, middle - 4 * num) : middle + 1]
    return rng.sample(window, min(num, len(window)))


def _weighted_loss(model: Any, rows: list[Row]) -> Tensor:
    length = max(len(ids) for ids, _ in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    weights = torch.zeros(len(rows), length)
    for i, (row, row_weights) in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        weights[i, : len(row)] = torch.tensor(row_weights)
    # Causal attention never looks at the padding behind a row, and padding has no weight.
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(input_ids=ids).logits
    losses = cross_entropy(logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    weight = weights[:, 1:].flatten()
    total: Tensor = (losses * weight).sum() / weight.sum()
    return total


def _save(path: Path, model: Any, optimizer: Any, step: int, losses: list[float]) -> None:
    partial = path.with_suffix(".partial")
    torch.save(
        {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "losses": losses}, partial
    )
    partial.rename(path)
