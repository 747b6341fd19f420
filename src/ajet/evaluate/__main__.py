"""`python -m ajet.evaluate run=<run dir>`: a checkpoint against its starting model on held-out seeds.

`runs=[<run dir>,<run dir>,base] opponent=scripted,random`: several policies, each against several opponents.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, NoReturn

from ajet.config.cli.calling import Invocation, arguments_of, run_call
from ajet.config.cli.ending import beginning, held_back
from ajet.config.cli.entry import run_entry
from ajet.config.cli.process import run_as_process
from ajet.config.compose import load_evaluation
from ajet.config.root import EvaluateConfig
from ajet.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from ajet.analysis import EvaluationResult

SWEEPS = ("-m", "--multirun")


def load(tree: DictConfig, overrides: Sequence[str]) -> EvaluateConfig:
    """The validated configuration, whose runs and opponents fit together.

    Raises:
        ConfigError: a setting cannot work.
    """
    request = load_evaluation(tree, overrides)
    # Loads pydantic and the workflow, which `--help` does without.
    from ajet.evaluate.entries import evaluation_entries
    from ajet.workflows.parameters import check_parameters

    for entry in evaluation_entries(request):
        check_parameters(entry.config)
    return request


def evaluate(config: EvaluateConfig) -> None:
    """Evaluate as the configuration says."""
    # Loads torch, vLLM and AgentScope: only once the configuration is known to work.
    with beginning("episode", "played"):
        with held_back():
            from ajet.assemble import build_evaluation

        prepared = build_evaluation(config)
    prepared.run()


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    arguments = [_in_tasks(argument) for argument in (sys.argv[1:] if argv is None else argv)]
    if not set(arguments) & set(SWEEPS):
        arguments = [_in_one_matrix(argument) for argument in arguments]
        try:
            _check_alone(arguments)
        except ConfigError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            return 2
    return run_entry("evaluate", load, evaluate, arguments)


def _in_tasks(argument: str) -> str:
    """A held-out task of a seeded game is a seed: either word will do."""
    key, equals, value = argument.partition("=")
    return f"num_tasks={value}" if equals and key == "num_seeds" else argument


def _in_one_matrix(argument: str) -> str:
    """`opponent=a,b` -> `opponents=[a,b]`: all in one matrix, where Hydra would see jobs of a sweep."""
    key, equals, value = argument.partition("=")
    several = equals and key == "opponent" and ("," in value or value.startswith("["))
    return f"opponents=[{value.strip('[]')}]" if several else argument


def _check_alone(arguments: Sequence[str]) -> None:
    """Refuse settings of an opponent where several are named, which have none in common, and an engine that has only
    what it has trained.

    Raises:
        ConfigError: the first such setting.
    """
    if "engine=tinker" in arguments:
        raise ConfigError(
            "engine=tinker has no effect: runs that were trained on a server name it themselves, and it has no others; "
            "leave it out, or choose engine=transformers or vllm"
        )
    if any(argument.startswith("opponents=") for argument in arguments):
        for argument in arguments:
            if argument.lstrip("+").startswith("opponent."):
                raise ConfigError(f"{argument} has no effect on several opponents: name the one that has it alone")


def from_python(
    run: str | PathLike[str] | Sequence[str | PathLike[str]] | None,
    overrides: Sequence[str],
    settings: Mapping[str, object],
) -> EvaluationResult:
    """`ajet.evaluate(...)`, which says what it takes and raises."""
    # Loads pandas.
    from ajet.analysis import read_evaluation

    if isinstance(run, str) and "=" in run:
        named = [run]
    elif isinstance(run, str | PathLike):
        named = arguments_of([], {"run": run})
    else:
        named = [] if run is None else arguments_of([], {"runs": _runs(run)})
    opponent = settings.get("opponent")
    if isinstance(opponent, str) and "," in opponent:  # as on the command line
        settings = {**settings, "opponent": opponent.split(",")}
    asked = [_in_one_matrix(_in_tasks(argument)) for argument in (*named, *arguments_of(overrides, settings))]
    _check_alone(asked)
    call = Invocation(name="ajet.evaluate", config_name="evaluate", overrides=asked)
    return read_evaluation(run_call(call, load, evaluate))


def _runs(given: object) -> list[object]:
    """Several runs of a call from Python.

    Raises:
        ConfigError: it is no list of runs.
    """
    if not isinstance(given, list | tuple):
        raise ConfigError(f"{given!r} is not a run: give what ajet.train returned, a run directory, 'latest' or a list")
    return list(given)


def command() -> NoReturn:
    """Run the command and end the process with its exit code."""
    run_as_process(main)


if __name__ == "__main__":
    command()
