"""What a small model can do before any reinforcement learning: `python -m ajet.models.gates [model] [mixture]`.

In: a checkpoint and the mixture that it has learned from. Out: the measures of that mixture (`measures/`), one a line.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from ajet.models.measures import tiny, tiny_tasks

MEASURES: dict[str, Callable[..., dict[str, float]]] = {"tiny": tiny.measured, "tiny_tasks": tiny_tasks.measured}
"""By the mixture's name."""


def print_gates(model: str, mixture: str, *, num_games: int, sense: float, temperature: float = 1.0) -> None:
    """Measure and print, a gate a line."""
    print(f"\n{num_games} held-out games a side, temperature {temperature}", flush=True)
    for name, value in MEASURES[mixture](model, num_games=num_games, sense=sense, temperature=temperature).items():
        print(f"  {name:40} {value:.4f}", flush=True)


def main() -> None:
    """Print the gates of a model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="builtin:tiny")
    parser.add_argument("mixture", nargs="?", default="tiny", choices=MEASURES, help="what the model has learned from")
    parser.add_argument("--games", type=int, default=200)
    parser.add_argument("--sense", type=float, default=0.35, help="the teachers' sense")
    parser.add_argument("--temperature", type=float, default=1.0)
    arguments = parser.parse_args()
    print_gates(
        arguments.model,
        arguments.mixture,
        num_games=arguments.games,
        sense=arguments.sense,
        temperature=arguments.temperature,
    )


if __name__ == "__main__":
    main()
