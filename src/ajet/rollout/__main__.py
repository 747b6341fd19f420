"""`python -m ajet.rollout`: play a few episodes without training, and tell each call as it happens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

from ajet.config.cli.calling import run_of_workflow
from ajet.config.cli.ending import beginning, held_back
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
    config = load_play(tree, overrides)
    # Loads pydantic and the workflow, which `--help` does without.
    from ajet.workflows.parameters import check_parameters

    check_parameters(config)
    return config


def play(config: PlayConfig) -> None:
    """Play as the configuration says."""
    # Loads torch, an engine and AgentScope: only once the configuration is known to work.
    with beginning("episode", "played"):
        with held_back():
            from ajet.assemble import build_play

        prepared = build_play(config)
    prepared.run()


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_entry("play", load, play, argv)


def from_python(workflow: object, overrides: Sequence[str], settings: Mapping[str, object]) -> Run:
    """`ajet.rollout(...)`, which says what it takes and raises."""
    from ajet.analysis import load_run  # loads pandas

    return load_run(run_of_workflow(workflow, overrides, settings, config_name="play", load=load, action=play))


def command() -> NoReturn:
    """Run the command and end the process with its exit code."""
    run_as_process(main)


if __name__ == "__main__":
    command()
