"""Print the gates of a model."""

from __future__ import annotations

import argparse

from ajet.models.gates import GATES, print_gates


def main() -> None:
    """Print the gates of a model."""
    parser = argparse.ArgumentParser(prog="ajet.models.gates", description="What a small model can do before training.")
    parser.add_argument("model", nargs="?", default="builtin:tiny")
    parser.add_argument("mixture", nargs="?", default="tiny", choices=GATES, help="what the model has learned from")
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
