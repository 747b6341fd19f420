"""What every entry point shares: arguments in, a validated config to the entry's action, an exit code out.

Hydra composes, makes the run directory and runs sweeps. Around it, this wrapper checks every job of the
command line before anything is created or loaded, turns Hydra's errors into one line, and gives each run a
directory of its own. `process` says what the exit codes mean.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from string import Template
from typing import Generic, TypeVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ajet.config.cli.arguments import read
from ajet.config.cli.calling import alone
from ajet.config.cli.checking import check_ahead
from ajet.config.cli.commands import command_of
from ajet.config.cli.ending import ending_signals, interrupted_before
from ajet.config.cli.latest import with_latest
from ajet.config.cli.placing import remove_unused
from ajet.config.cli.process import interrupt
from ajet.config.explain import explain
from ajet.config.hardware import prepare_process
from ajet.config.hydra_private import VERSION_BASE, run_jobs
from ajet.config.store import SCHEMAS, conf_dir, group_options, groups, register
from ajet.config.sweeps.command import outcome, repeated_arguments, resume_command, sweep_to_resume
from ajet.config.sweeps.job import SweepJob, run_sweep_job
from ajet.config.user_code.lines import one_line
from ajet.errors import AjetError, ConfigError, InterruptedEarlyError, RunInterruptedError, UserInterrupt, is_users
from ajet.tracking.files.provenance import asked
from ajet.tracking.files.writing import refusal

C = TypeVar("C")


def run_entry(
    config_name: str,
    load: Callable[[DictConfig, Sequence[str]], C],
    action: Callable[[C], float | None],
    argv: Sequence[str] | None = None,
) -> int:
    """Run an entry point and return its exit code.

    Args:
        config_name: the primary YAML file under conf/, and the name of its schema.
        load: (composed tree, overrides) -> validated config; raises `ConfigError`.
        action: does the work of one job and returns the score that a sweeper may optimize, or None; a job that
            fails does not stop the others of a sweep.
        argv: the arguments without the program's name; None: those of this process.
    """
    prepare_process()
    with ending_signals(interrupt), alone(f"python -m ajet.{command_of(config_name)}"):
        return _exit_code_of(config_name, load, action, sys.argv[1:] if argv is None else argv)


def _exit_code_of(
    config_name: str,
    load: Callable[[DictConfig, Sequence[str]], C],
    action: Callable[[C], float | None],
    argv: Sequence[str],
) -> int:
    """`run_entry`'s work, and a sentence for whatever keeps it from being done."""
    overrides: list[str] = []
    job = _Job(load, action)
    try:
        command = read(argv)
        overrides = command.overrides
        overrides = with_latest(overrides, command.flags.config_dir)
        command = replace(command, overrides=overrides)
        if command.flags.help:
            with suppress(BrokenPipeError):  # `--help | head`
                print(_help_text(config_name), flush=True)
            return 0
        if not _starts_jobs(command.flags):
            _show(config_name, command.arguments)
            return 0
        sweep = sweep_to_resume(overrides)
        if sweep is not None:
            command = read(repeated_arguments(sweep, overrides, config_name))
            overrides = command.overrides
        placed = check_ahead(config_name, command, load, resumed_sweep=sweep)
        asked.set([sys.argv[0], *placed.overrides, *command.flag_arguments])
        if placed.sweep is not None:
            return _run_sweep(config_name, load, action, placed.overrides, placed.sweep)
        with _removed_if_unused(placed.made, job):
            run_jobs(config_name, job, placed.overrides)
        return job.exit_code
    except (AjetError, HydraException, OmegaConfBaseException) as error:
        _report(explain(error, SCHEMAS[config_name], overrides))
        return _exit_code(error) if isinstance(error, AjetError) else 2
    except UserInterrupt as stop:
        first = ("step", "trained") if config_name == "train" else ("episode", "played")
        _report(interrupted_before(*first) if job.left_nothing else "interrupted")
        return 128 + stop.signum
    except (OSError, SystemExit, KeyboardInterrupt) as error:
        return _failed(error)


@contextmanager
def _removed_if_unused(made: Path | None, job: _Job[C]) -> Iterator[None]:
    """Around a job in a directory that was made for it: one that was interrupted early leaves none."""
    try:
        yield
    finally:
        if made is not None and job.left_nothing:
            remove_unused(made)


def _failed(error: BaseException) -> int:
    """One sentence for what is neither a mistake of the command line nor a bug.

    Raises:
        BaseException: a bug, or the user's own interrupt.
    """
    said = refusal(error) if isinstance(error, OSError) else f"the run was ended by {one_line(error)}"
    if said is None or is_users(error):
        raise error
    _report(said)
    return 1


def _help_text(config_name: str) -> str:
    """The primary file's help. Hydra's own rendering loads every plugin, for most of a second."""
    primary = OmegaConf.load(conf_dir() / f"{config_name}.yaml")
    listed = "\n".join(f"{group:<12} {', '.join(group_options(group))}" for group in groups())
    return Template(OmegaConf.select(primary, "hydra.help.template")).substitute(APP_CONFIG_GROUPS=listed)


def _starts_jobs(flags: Namespace) -> bool:
    return not (flags.hydra_help or flags.cfg or flags.info or flags.shell_completion)


def _run_sweep(
    config_name: str,
    load: Callable[[DictConfig, Sequence[str]], C],
    action: Callable[[C], float | None],
    overrides: Sequence[str],
    sweep: Path,
) -> int:
    """Let Hydra run the jobs; says at the end what became of them."""

    def job(tree: DictConfig) -> float | None:
        return run_sweep_job(tree, _sweep_job(list(HydraConfig.get().overrides.task)), load, action)

    try:
        run_jobs(config_name, job, overrides, multirun=True)
    except KeyboardInterrupt as stop:
        _report(f"interrupted; resume with: {resume_command(sweep)}")
        return 128 + (stop.signum if isinstance(stop, UserInterrupt) else signal.SIGINT)
    except AjetError as error:  # what kept a job from being begun or written down
        _report(f"{' '.join(str(error).split()).rstrip('.')}; resume with: {resume_command(sweep)}")
        return 1
    except (Exception, SystemExit):
        # The launcher's or the sweeper's own failure, e.g. a worker that was killed: the jobs tell what is lost.
        traceback.print_exc()
    lines, done = outcome(sweep)
    print("\n".join(lines), flush=True)
    return 0 if done else 1


class _Job(Generic[C]):
    """A single run as Hydra calls it; its mistakes become a sentence and an exit code."""

    def __init__(self, load: Callable[[DictConfig, Sequence[str]], C], action: Callable[[C], float | None]) -> None:
        """As `run_entry`."""
        self.exit_code = 0
        self.left_nothing = True
        """Whether it has not begun, or was interrupted before there was anything to keep."""
        self._load, self._action = load, action

    def __call__(self, tree: DictConfig) -> float | None:
        """Run; returns the score."""
        try:
            config = self._load(tree, list(HydraConfig.get().overrides.task))
            self.left_nothing = False
            return self._action(config)
        except AjetError as error:
            self.left_nothing = isinstance(error, InterruptedEarlyError)
            _report(" ".join(str(error).split()))
            self.exit_code = _exit_code(error)
        except (OSError, SystemExit, KeyboardInterrupt) as error:
            self.exit_code = _failed(error)
        return None


def _show(config_name: str, arguments: Sequence[str]) -> None:
    """What Hydra does by flags of its own, `--cfg`, `--info`, completion and the like. It reads `sys.argv`."""
    # Hydra would otherwise print its errors itself, over several lines, and exit.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    kept = sys.argv
    register()
    sys.argv = [kept[0], *arguments]
    try:
        hydra.main(version_base=VERSION_BASE, config_path=str(conf_dir()), config_name=config_name)(_no_job)()
    finally:
        sys.argv = kept


def _no_job(tree: DictConfig) -> None:
    """Stands for the job where Hydra starts none, and only asks whose module it is."""


def show_completions(config_name: str) -> None:
    """Print what the line in COMP_LINE may become, as Hydra's own completion of a shell asks for it."""
    _show(config_name, ["--shell-completion", "query=bash"])


def _sweep_job(overrides: list[str]) -> SweepJob:
    """The job that Hydra is about to run."""
    about = HydraConfig.get()
    return SweepJob(
        sweep=Path(about.sweep.dir),
        folder=Path(about.runtime.output_dir),
        number=int(about.job.num),
        overrides=overrides,
    )


def _exit_code(error: AjetError) -> int:
    if isinstance(error, RunInterruptedError):
        return 128 + error.signum
    return 2 if isinstance(error, ConfigError) else 1


def _report(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
