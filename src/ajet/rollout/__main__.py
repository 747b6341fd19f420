"""`python -m ajet.rollout`: play a few episodes without training, and tell each call as it happens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

from ajet.config.cli.calling import Invocation, alone, arguments_of, check_named_once, run_call
from ajet.config.cli.entry import run_entry
from ajet.config.cli.process import run_as_process
from ajet.config.compose import load_play
from ajet.config.root import PlayConfig

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from ajet.analysis import Run


def load(tree: DictConfig, overrides: Sequence[str]) -> PlayConfig:
    """The validated configuration, with parameters that a built-in workflow takes.

    Raises:
        ConfigError: a setting cannot work.
    """
    config = load_play(tree)
    # Loads pydantic and the workflow, which `--help` does without.
    from ajet.workflows.parameters import check_parameters

    check_parameters(config)
    return config


def play(config: PlayConfig) -> None:
    """Play as the configuration says."""
    # Loads torch, an engine and AgentScope: only once the configuration is known to work.
    from ajet.assemble import build_play

    build_play(config).run()


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_entry("play", load, play, argv)


def from_python(workflow: object, overrides: Sequence[str], settings: Mapping[str, object]) -> Run:
    """`ajet.rollout(...)`, which says what it takes and raises."""
    # Load pydantic, and pandas.
    from ajet.analysis import load_run
    from ajet.workflows.naming import name_workflow

    with alone("ajet.rollout"):  # a notebook's cells may be run anew
        named = name_workflow(workflow)
    arguments = arguments_of(overrides, settings)
    check_named_once(named.overrides, arguments, name="ajet.rollout")
    asked = [*named.overrides, *arguments]
    call = Invocation(name="ajet.rollout", config_name="play", overrides=asked, source=named.source)
    return load_run(run_call(call, load, play))


def command() -> NoReturn:
    """Run the command and end the process with its exit code."""
    run_as_process(main)


if __name__ == "__main__":
    command()
