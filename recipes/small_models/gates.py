"""What a small model can do before reinforcement learning: `python -m recipes.small_models.gates [model] [mixture]`.

In: a checkpoint; the mixture that it has learned from is named by its `recipe.json` or given. Out: the measures of that
mixture (`measures/`), one a line.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from recipes.small_models.measures import tiny, tiny_tasks

from ajet.config.model import resolve_model_path
from ajet.errors import ConfigError

MEASURES: dict[str, Callable[..., dict[str, float]]] = {"tiny": tiny.measured, "tiny_tasks": tiny_tasks.measured}
"""By the mixture's name."""


def print_gates(model: str, mixture: str, *, num_games: int, sense: float, temperature: float = 1.0) -> None:
    """Measure and print, a gate a line."""
    print(f"\n{num_games} held-out games a side, temperature {temperature}", flush=True)
    for name, value in MEASURES[mixture](model, num_games=num_games, sense=sense, temperature=temperature).items():
        print(f"  {name:40} {value:.4f}", flush=True)


def mixture_of(model: str) -> str:
    """The mixture that a checkpoint's recipe names; the first recipe knew but one and named none.

    Raises:
        ConfigError: the checkpoint has no recipe, as those of a run.
    """
    path = Path(resolve_model_path(model)) / "recipe.json"
    if not path.is_file():
        raise ConfigError(f"{model} has no recipe.json: name the mixture, {' or '.join(MEASURES)}")
    return str(json.loads(path.read_text()).get("mixture", "tiny"))


def main() -> None:
    """Print the gates of a model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="builtin:tiny")
    parser.add_argument("mixture", nargs="?", choices=MEASURES, help="default: the one that recipe.json names")
    parser.add_argument("--games", type=int, default=200)
    parser.add_argument("--sense", type=float, default=0.35, help="the teachers' sense")
    parser.add_argument("--temperature", type=float, default=1.0)
    arguments = parser.parse_args()
    print_gates(
        arguments.model,
        arguments.mixture or mixture_of(arguments.model),
        num_games=arguments.games,
        sense=arguments.sense,
        temperature=arguments.temperature,
    )


if __name__ == "__main__":
    main()
