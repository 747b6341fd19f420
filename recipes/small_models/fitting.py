"""Fit a small causal language model to rows: the supervised half of the recipe.

In: rows of token ids with what to predict where, and with which weight. Out: trained weights, the same for the same
rows and seed. Progress is saved every so often, so a fit that was cut off resumes where it was. Left out: where rows
come from.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A text and its targets, T tokens and E targets. A position may have several targets: soft ones.

    Example: ids (7, 8) where 8 and 9 are equally right after 7 have places (1, 1), targets (8, 9), weights (0.5, 0.5).
    """

    ids_T: NDArray[np.int16]
    places_E: NDArray[np.int16]
    """Positions to predict, from 1 on."""
    targets_E: NDArray[np.int16]
    weights_E: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """Length and rate of a fit."""

    num_steps: int
    tokens_per_step: int
    """Padded tokens in a batch."""
    learning_rate: float
    """Peak rate of AdamW."""
    matrix_learning_rate: float
    """Peak rate of Muon."""
    warmup_steps: int
    save_every: int
    seed: int


def fit(model: Any, stages: Sequence[tuple[float, list[Row]]], settings: FitSettings, progress: Path) -> float:
    """Train in place.

    Args:
        model: a transformers causal LM on the CPU.
        stages: (share of the steps up to which this stage lasts, its rows); the last share is 1.
        settings: length and rate.
        progress: where the state is saved; a state that lies there is resumed.

    Returns:
        The mean weighted loss over the last tenth of the steps.
    """
    optimizers = make_optimizers(model, settings)
    first, losses = 0, []
    if progress.exists():
        state = torch.load(progress, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        first, losses = state["step"], state["losses"]
    model.train()
    for step in range(first, settings.num_steps):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * _rate(step, settings)
        rows = next(rows for share, rows in stages if step < share * settings.num_steps)
        loss = weighted_loss(model, _batch(rows, step, settings))
        torch.autograd.backward([loss])
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        losses.append(float(loss.detach()))
        if (step + 1) % settings.save_every == 0:
            print(f"fit {step + 1}/{settings.num_steps} loss {sum(losses[-50:]) / len(losses[-50:]):.4f}", flush=True)
            _save(progress, model, optimizers, step + 1, losses)
    tail = losses[-max(1, settings.num_steps // 10) :]
    return sum(tail) / len(tail)


def make_optimizers(model: Any, settings: FitSettings) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the matrices inside the blocks, AdamW for embeddings and norms."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    inside = {"params": matrices, "peak_lr": settings.matrix_learning_rate}
    outside = {"params": others, "peak_lr": settings.learning_rate}
    return [
        torch.optim.Muon([inside], momentum=0.95, weight_decay=0.01),
        torch.optim.AdamW([outside], betas=(0.9, 0.95), weight_decay=0.01, fused=True),
    ]


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
    longest = len(rows[middle].ids_T)
    # Rows lie sorted by length, so neighbours pad little.
    num = max(1, settings.tokens_per_step // longest)
    window = rows[max(0, middle - 4 * num) : middle + 1]
    return rng.sample(window, min(num, len(window)))


def weighted_loss(model: Any, rows: list[Row]) -> Tensor:
    """Cross-entropy of all targets, averaged by weight."""
    length = max(len(row.ids_T) for row in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids_T)] = torch.from_numpy(row.ids_T)
    # Where a target is predicted from, in the flattened batch.
    sources = torch.cat([i * length + torch.from_numpy(row.places_E).long() - 1 for i, row in enumerate(rows)])
    targets = torch.cat([torch.from_numpy(row.targets_E).long() for row in rows])
    weights = torch.cat([torch.from_numpy(row.weights_E) for row in rows])
    # Causal attention never looks at the padding behind a row, and padding has no targets.
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(input_ids=ids).logits
    log_probs = logits.float().flatten(0, 1).log_softmax(-1)
    total: Tensor = -(log_probs[sources, targets] * weights).sum() / weights.sum()
    return total


def _save(path: Path, model: Any, optimizers: list[torch.optim.Optimizer], step: int, losses: list[float]) -> None:
    partial = path.with_suffix(".partial")
    torch.save(
        {
            "model": model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            "step": step,
            "losses": losses,
        },
        partial,
    )
    partial.rename(path)
