"""`python -m ajet`: the commands, a line each."""

from __future__ import annotations

import sys
from collections.abc import Sequence

COMMANDS = {
    "ajet.train": "train chosen roles of a workflow, or go on with a run or a sweep: workflow=signals",
    "ajet.rollout": "play a few episodes without training, told as they happen: workflow=signals num_episodes=2",
    "ajet.evaluate": "play a run's checkpoint against its starting model: run=outputs/<date>/<time>",
    "ajet.report": "write a run or a sweep up as one HTML file: outputs/<date>/<time>",
    "ajet.view": "read episodes in a browser: outputs/<date>/<time>, or outputs to choose one",
    "ajet.analysis.curves": "draw reward curves of runs: <run> <run> --out curves.png",
}
"""What `python -m` takes, with what it is for and arguments to begin with."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print the commands; returns the exit code, 2 if something else was asked for."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    width = max(map(len, COMMANDS))
    lines = [f"  python -m {name:<{width}}  {about}" for name, about in COMMANDS.items()]
    text = "\n".join(["ajet trains the language model behind chosen roles of a multi-agent program.", "", *lines])
    if not set(arguments) - {"-h", "--help", "help"}:
        print(f"{text}\n\nEach has --help.")
        return 0
    wanted = f"ajet.{arguments[0]}"
    meant = f"python -m {wanted} {' '.join(arguments[1:])}".rstrip() if wanted in COMMANDS else "one of"
    print(f"error: python -m ajet takes no arguments; did you mean {meant}\n\n{text}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
