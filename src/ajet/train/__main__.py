"""`python -m ajet.train`: compose, validate, print an overview, train."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ajet.config.cli.calling import run_of_workflow
from ajet.config.cli.ending import beginning, ending_signals, held_back
from ajet.config.cli.entry import run_entry
from ajet.config.cli.process import interrupt, run_as_process
from ajet.config.compose import load_training
from ajet.config.hardware import prepare_process, rank_and_size
from ajet.config.known_code import record_code
from ajet.config.overview import overview
from ajet.config.root import Config
from ajet.config.saved import load as load_run
from ajet.config.saved import save, with_user_options
from ajet.errors import AjetError, RankError, RunInterruptedError, UserInterrupt
from ajet.tracking.files.attempts import check_resumable, drop_unfinished, set_aside
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
        drop_unfinished(run_dir)
        set_aside(run_dir)
        print("\n".join(overview(config, num_processes=rank_and_size()[1])), flush=True)
        record_code(config, run_dir)
        save(config, run_dir / "config.yaml")
        # Loads torch, vLLM and AgentScope: only once the configuration is known to work.
        with beginning("step", "trained"), held_back():
            from ajet.assemble.trainer import build_trainer
            from ajet.train.ranks import joined

        with joined() as ranks:
            with beginning("step", "trained"):
                ranks.of_the_first(config.run_dir)
                trainer = build_trainer(config, ranks)
            return trainer.run()


def train_beside_the_first() -> int:
    """Train as another process of the run does that the first one leads; returns the exit code.

    It takes the configuration that the first has saved, and writes nothing. What the run ends with is said by the
    first one, but for an error of this process before the first step, when the first knows only that it has ended.
    """
    from ajet.assemble.trainer import build_trainer
    from ajet.train.ranks import joined

    prepare_process()
    try:
        # Until all have joined a signal ends this process at once: nothing is lost, and the launcher waits for it.
        with joined() as ranks, ending_signals(interrupt):
            config = with_user_options(load_run(Path(ranks.of_the_first(""))))
            try:
                trainer = build_trainer(config, ranks)
            except RankError:
                return 1
            except AjetError as error:
                print(f"error in process {ranks.rank}: {error}", file=sys.stderr, flush=True)
                return 1
            trainer.run()
    except RunInterruptedError as stop:
        return 128 + stop.signum
    except AjetError:
        return 1
    except UserInterrupt as stop:
        return 128 + stop.signum
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code. Under a launcher of several processes the first one leads."""
    rank, size = rank_and_size()
    if rank > 0:
        return train_beside_the_first()
    arguments = sys.argv[1:] if argv is None else argv
    if size > 1 and {"-m", "--multirun"} & set(arguments):
        told = "a sweep cannot be run by several processes together: start it without torchrun or accelerate launch"
        print(f"error: {told}", file=sys.stderr, flush=True)
        return 2
    return run_entry("train", load, train, argv)


def from_python(workflow: object, overrides: Sequence[str], settings: Mapping[str, object]) -> Run:
    """`ajet.train(...)`, which says what it takes and raises."""
    from ajet.analysis import load_run as read_run  # loads pandas

    return read_run(run_of_workflow(workflow, overrides, settings, config_name="train", load=load, action=train))


def command() -> NoReturn:
    """Run the command and end the process with its exit code."""
    run_as_process(main)


if __name__ == "__main__":
    command()
