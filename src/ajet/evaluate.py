"""`python -m ajet.evaluate run=<run dir>`: a checkpoint against its starting model on held-out seeds."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ajet.cli import run_entry
from ajet.config.compose import load_evaluation
from ajet.config.root import EvaluateConfig

if TYPE_CHECKING:
    from omegaconf import DictConfig


def load(tree: DictConfig, overrides: Sequence[str]) -> EvaluateConfig:
    """The validated configuration, whose run and opponent fit together.

    Raises:
        ConfigError: a setting cannot work.
    """
    request = load_evaluation(tree, overrides)
    # Loads pydantic and the workflow, which `--help` does without.
    from ajet.evaluation.setting import played_config
    from ajet.workflows.parameters import check_parameters

    check_parameters(played_config(request))
    return request


def evaluate(config: EvaluateConfig) -> None:
    """Evaluate as the configuration says."""
    # Loads torch, vLLM and AgentScope: only once the configuration is known to work.
    from ajet.assemble import build_evaluation

    build_evaluation(config).run()


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_entry("evaluate", load, evaluate, argv)


if __name__ == "__main__":
    sys.exit(main())
