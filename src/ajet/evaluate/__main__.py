"""`python -m ajet.evaluate run=<run dir>`: a checkpoint against its starting model on held-out seeds.

`runs=[<run dir>,<run dir>,base] opponent=scripted,random`: a matrix of several.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from ajet.config.cli.entry import run_entry
from ajet.config.cli.process import run_as_process
from ajet.config.compose import load_evaluation, load_matrix
from ajet.config.root import EvaluateConfig, MatrixConfig

if TYPE_CHECKING:
    from omegaconf import DictConfig


def load(tree: DictConfig, overrides: Sequence[str]) -> EvaluateConfig:
    """The validated configuration, whose run and opponent fit together.

    Raises:
        ConfigError: a setting cannot work.
    """
    request = load_evaluation(tree, overrides)
    # Loads pydantic and the workflow, which `--help` does without.
    from ajet.evaluate.setting import played_config
    from ajet.workflows.parameters import check_parameters

    check_parameters(played_config(request))
    return request


def evaluate(config: EvaluateConfig) -> None:
    """Evaluate as the configuration says."""
    # Loads torch, vLLM and AgentScope: only once the configuration is known to work.
    from ajet.assemble import build_evaluation

    build_evaluation(config).run()


def load_several(tree: DictConfig, overrides: Sequence[str]) -> MatrixConfig:
    """The validated configuration of a matrix, whose runs and opponents fit together.

    Raises:
        ConfigError: a setting cannot work.
    """
    request = load_matrix(tree, overrides)
    from ajet.evaluate.setting import matrix_entries
    from ajet.workflows.parameters import check_parameters

    for entry in matrix_entries(request):
        check_parameters(entry.config)
    return request


def evaluate_several(config: MatrixConfig) -> None:
    """Play the matrix."""
    from ajet.assemble import build_matrix

    build_matrix(config).run()


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code. `runs=` asks for a matrix, `run=` for one run against its starting model."""
    arguments = [_in_tasks(argument) for argument in (sys.argv[1:] if argv is None else argv)]
    if any(argument.startswith("runs=") for argument in arguments):
        return run_entry("matrix", load_several, evaluate_several, [_in_plural(argument) for argument in arguments])
    return run_entry("evaluate", load, evaluate, arguments)


def _in_tasks(argument: str) -> str:
    """A held-out task of a seeded game is a seed: either word will do."""
    key, equals, value = argument.partition("=")
    return f"num_tasks={value}" if equals and key == "num_seeds" else argument


def _in_plural(argument: str) -> str:
    """`opponent=a,b` -> `opponents=[a,b]`: all in one matrix, where Hydra would see jobs of a sweep."""
    key, equals, value = argument.partition("=")
    return f"opponents=[{value.strip('[]')}]" if equals and key == "opponent" else argument


def command() -> NoReturn:
    """The whole process."""
    run_as_process(main)


if __name__ == "__main__":
    command()
