"""What a small model can do before any reinforcement learning: `python -m ajet.models.gates [model] [mixture]`."""

from __future__ import annotations

from collections.abc import Callable

from ajet.models.gates import tiny, tiny_tasks

GATES: dict[str, Callable[..., dict[str, float]]] = {"tiny": tiny.measured, "tiny_tasks": tiny_tasks.measured}
"""What to measure, by the mixture's name."""


def print_gates(model: str, mixture: str, *, num_games: int, sense: float, temperature: float = 1.0) -> None:
    """Measure and print, a gate a line."""
    print(f"\n{num_games} held-out games a side, temperature {temperature}", flush=True)
    for name, value in GATES[mixture](model, num_games=num_games, sense=sense, temperature=temperature).items():
        print(f"  {name:40} {value:.4f}", flush=True)
