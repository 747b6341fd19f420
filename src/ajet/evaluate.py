"""`python -m ajet.evaluate run=<run dir>`: a checkpoint against its starting model on held-out seeds."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ajet.cli import run_entry
from ajet.config.compose import load_evaluation
from ajet.config.root import EvaluateConfig


def evaluate(config: EvaluateConfig) -> None:
    """Evaluate as the configuration says."""
    # Loads torch, vLLM and AgentScope: only once the configuration is known to work.
    from ajet.assemble import build_evaluation

    build_evaluation(config).run()


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_entry("evaluate", load_evaluation, evaluate, argv)


if __name__ == "__main__":
    sys.exit(main())
