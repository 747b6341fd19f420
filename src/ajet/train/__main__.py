"""`python -m ajet.train`: compose, validate, print the plan, train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ajet.config.cli.calling import Invocation, alone, arguments_of, check_named_once, run_call
from ajet.config.cli.entry import run_entry
from ajet.config.cli.process import run_as_process
from ajet.config.compose import load_training
from ajet.config.known_code import record_code
from ajet.config.plan import plan
from ajet.config.root import Config
from ajet.config.saved import save
from ajet.tracking.files.attempts import check_resumable, set_aside
from ajet.tracking.files.lock import locked

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from ajet.analysis import Run


def load(tree: DictConfig, overrides: Sequence[str]) -> Config:
    """The validated configuration, with parameters that a built-in workflow takes.

    Raises:
        ConfigError: a setting cannot work.
    """
    config = load_training(tree, overrides)
    # Loads pydantic and the workflow, which `--help` does without.
    from ajet.workflows.parameters import check_parameters

    check_parameters(config)
    return config


def train(config: Config) -> float | None:
    """Train as the configuration says, in its run directory; returns the final held-out score, if there is one.

    Raises:
        RunDirectoryError: another process works in the directory, or it holds nothing that can be resumed.
    """
    run_dir = Path(config.run_dir)
    with locked(run_dir):
        if config.resume is not None:
            check_resumable(run_dir)
        set_aside(run_dir)
        print("\n".join(plan(config)), flush=True)
        record_code(config, run_dir)
        save(config, run_dir / "config.yaml")
        # Loads torch, vLLM and AgentScope: only once the configuration is known to work.
        from ajet.assemble.trainer import build_trainer

        return build_trainer(config).run()


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_entry("train", load, train, argv)


def from_python(workflow: object, overrides: Sequence[str], settings: Mapping[str, object]) -> Run:
    """`ajet.train(...)`, which says what it takes and raises."""
    # Load pydantic, and pandas.
    from ajet.analysis import load_run
    from ajet.workflows.naming import name_workflow

    with alone("ajet.train"):  # a notebook's cells may be run anew
        named = name_workflow(workflow)
    arguments = arguments_of(overrides, settings)
    check_named_once(named.overrides, arguments, name="ajet.train")
    asked = [*named.overrides, *arguments]
    call = Invocation(name="ajet.train", config_name="train", overrides=asked, source=named.source)
    return load_run(run_call(call, load, train))


def command() -> NoReturn:
    """Run the command and end the process with its exit code."""
    run_as_process(main)


if __name__ == "__main__":
    command()
