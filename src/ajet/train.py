"""`python -m ajet.train`: compose, validate, print the plan, train."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from ajet.cli import run_entry
from ajet.config.compose import load_training, save
from ajet.config.plan import plan
from ajet.config.root import Config


def train(config: Config) -> None:
    """Train as the configuration says, in its run directory."""
    print("\n".join(plan(config)), flush=True)
    save(config, Path(config.run_dir) / "config.yaml")
    # Loads torch, vLLM and AgentScope: only once the configuration is known to work.
    from ajet.assemble import build_trainer

    build_trainer(config).run()


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_entry("train", load_training, train, argv)


if __name__ == "__main__":
    sys.exit(main())
