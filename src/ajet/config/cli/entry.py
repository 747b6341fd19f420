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
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, TypeVar

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from ajet.config.authors.lines import one_line
from ajet.config.cli.arguments import Command, quoted, read
from ajet.config.cli.ending import ending_signals
from ajet.config.cli.placing import place_run, place_sweep
from ajet.config.cli.process import interrupt
from ajet.config.compose import VERSION_BASE, compose_tree
from ajet.config.explain import explain
from ajet.config.root import Config, PlayConfig
from ajet.config.store import SCHEMAS, conf_dir, group_options, groups, register
from ajet.config.sweeps.axis import expand_axis
from ajet.config.sweeps.command import (
    check_repeatable,
    check_search,
    how_to_go_on,
    outcome,
    plan_of,
    repeated_arguments,
    sweep_to_go_on_with,
)
from ajet.config.sweeps.job import SweepJob, run_sweep_job
from ajet.config.sweeps.records import write_plan
from ajet.config.unread import only_for_training, unread
from ajet.errors import AjetError, ConfigError, RunInterruptedError, UserInterrupt, is_users
from ajet.tracking.files.writing import refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    # Hydra would otherwise print its errors itself, over several lines, and exit.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # a NUMA warning that nobody can act upon
    # Threads that spin long at a barrier, OpenMP's habit, wait for one that any other process keeps off its core;
    # those that sleep at once take longer to wake than a small model's layer takes.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    # oneDNN and torch above it keep what they prepared for 1,024 shapes each. Packs are hardly ever of one length
    # twice, so that it only fills memory, 15 MB a pack; 32 are enough for the layers of one pack.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")
    os.environ.setdefault("LRU_CACHE_CAPACITY", "32")
    with ending_signals(interrupt):
        return _exit_code_of(config_name, load, action, sys.argv[1:] if argv is None else argv)


def _exit_code_of(
    config_name: str,
    load: Callable[[DictConfig, Sequence[str]], C],
    action: Callable[[C], float | None],
    argv: Sequence[str],
) -> int:
    """`run_entry`'s work, and a sentence for whatever keeps it from being done."""
    overrides: list[str] = []
    try:
        command = read(argv)
        overrides = command.overrides
        if command.flags.help:
            with suppress(BrokenPipeError):  # `--help | head`
                print(_help_text(config_name), flush=True)
            return 0
        if not _starts_jobs(command.flags):
            return _hand_to_hydra(config_name, load, action, command.arguments)
        sweep = sweep_to_go_on_with(overrides)
        if sweep is not None:
            command = read(repeated_arguments(sweep, overrides, config_name))
            overrides = command.overrides
        arguments, sweep = _check_ahead(config_name, command, load, going_on=sweep)
        if sweep is None:
            return _hand_to_hydra(config_name, load, action, arguments)
        return _run_sweep(config_name, load, action, arguments, sweep)
    except (AjetError, HydraException, OmegaConfBaseException) as error:
        _report(explain(error, SCHEMAS[config_name], overrides))
        return 2
    except UserInterrupt as stop:
        _report("interrupted")
        return 128 + stop.signum
    except (OSError, SystemExit, KeyboardInterrupt) as error:
        return _failed(error)


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
    only_shows = flags.hydra_help or flags.cfg or flags.info or flags.shell_completion
    return not only_shows and flags.experimental_rerun is None


def _check_ahead(
    config_name: str,
    command: Command,
    load: Callable[[DictConfig, Sequence[str]], C],
    going_on: Path | None,
) -> tuple[list[str], Path | None]:
    """Validate every job of the command line; returns Hydra's arguments, and the sweep's directory if it is one."""
    overrides, flags = command.overrides, command.flags
    fixed = [str(item.input_line) for item in _parsed(overrides) if not item.is_sweep_override()]
    tree = compose_tree(fixed if flags.multirun else overrides, config_name=config_name, config_dir=flags.config_dir)
    if not flags.multirun and tree.hydra.mode != RunMode.MULTIRUN:
        _refuse_unread([load(_job_tree(tree), overrides)], [overrides], is_sweep=False)
        kind = OmegaConf.select(tree, "sweep.kind")
        if kind not in (None, "grid"):
            raise ConfigError(f"sweep={kind} has no effect on a single run: add -m, or drop it")
        return [*place_run(tree, overrides), *command.arguments], None
    if OmegaConf.select(tree, "resume") is not None:
        raise ConfigError("resume continues one run, or a sweep by its directory: drop -m")
    check_search(tree)
    overrides = expand_axis(tree, overrides)
    swept = [*(f"{key}={value}" for key, value in (tree.hydra.sweeper.params or {}).items()), *overrides]
    jobs = None
    # Other sweepers choose their values as they go; their jobs are validated when they start.
    if str(tree.hydra.sweeper._target_).endswith(BasicSweeper.__name__):
        jobs = BasicSweeper.split_arguments(_parsed(swept), max_batch_size=None)[0]
        trees = (compose_tree(job, config_name=config_name, config_dir=flags.config_dir) for job in jobs)
        loaded = [load(_job_tree(tree), job) for tree, job in zip(trees, jobs, strict=True)]
        _refuse_unread(loaded, jobs, is_sweep=True)
    # Absolute, for a job's workflow may change the directory of the process.
    sweep = (going_on or place_sweep(tree, overrides)).absolute()
    if going_on is None:
        write_plan(sweep, plan_of(config_name, command.arguments, swept, jobs))
    else:
        check_repeatable(tree)
    placed = [override for override in overrides if not override.startswith("hydra.sweep.dir=")]
    return [f"hydra.sweep.dir={quoted(str(sweep))}", *placed, *command.flag_arguments], sweep


def _refuse_unread(configs: Sequence[object], overrides: Sequence[Sequence[str]], *, is_sweep: bool) -> None:
    """Refuse what the command line names and none of its jobs reads; say what only training would read.

    Args:
        configs: a job's each.
        overrides: likewise.
        is_sweep: whether there may be several.

    Raises:
        ConfigError: the first such setting.
    """
    read: set[str] = set()
    sentences: dict[str, str] = {}
    for config, named in zip(configs, overrides, strict=True):
        idle = unread(config, named, is_sweep=is_sweep) if isinstance(config, Config) else {}
        read |= {override.lstrip("+") for override in named} - set(idle)
        sentences |= idle
    for override, sentence in sentences.items():
        if override not in read:  # in a sweep, of another choice of roles say
            raise ConfigError(sentence)
    if isinstance(configs[0], PlayConfig):
        ignored = only_for_training(overrides[0])
        if ignored:
            print(f"note: playing without training does not read {', '.join(ignored)}", file=sys.stderr, flush=True)


def _parsed(overrides: Sequence[str]) -> list[Override]:
    return OverridesParser.create().parse_overrides(list(overrides))


def _job_tree(tree: DictConfig) -> DictConfig:
    """The tree that a job will see; the current directory stands in for its own, which does not exist yet."""
    with read_write(tree.hydra.runtime), open_dict(tree.hydra.runtime):
        tree.hydra.runtime.output_dir = os.getcwd()
    HydraConfig.instance().set_config(tree)
    job = tree.copy()
    with open_dict(job):
        del job["hydra"]
    return job


def _run_sweep(
    config_name: str,
    load: Callable[[DictConfig, Sequence[str]], C],
    action: Callable[[C], float | None],
    arguments: Sequence[str],
    sweep: Path,
) -> int:
    """Let Hydra run the jobs; says at the end what became of them."""
    try:
        _hand_to_hydra(config_name, load, action, arguments)
    except KeyboardInterrupt as stop:
        _report(f"interrupted; go on with: {how_to_go_on(sweep)}")
        return 128 + (stop.signum if isinstance(stop, UserInterrupt) else signal.SIGINT)
    except AjetError as error:  # what kept a job from being begun or written down
        _report(f"{' '.join(str(error).split()).rstrip('.')}; go on with: {how_to_go_on(sweep)}")
        return 1
    except (Exception, SystemExit):
        # The launcher's or the sweeper's own failure, e.g. a worker that was killed: the jobs tell what is lost.
        traceback.print_exc()
    lines, done = outcome(sweep)
    print("\n".join(lines), flush=True)
    return 0 if done else 1


def _hand_to_hydra(
    config_name: str,
    load: Callable[[DictConfig, Sequence[str]], C],
    action: Callable[[C], float | None],
    arguments: Sequence[str],
) -> int:
    """Let Hydra do what the arguments say; returns the exit code of a single run."""
    exit_codes = [0]

    def job(tree: DictConfig) -> float | None:
        overrides = list(HydraConfig.get().overrides.task)
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            return run_sweep_job(tree, _sweep_job(overrides), load, action)
        try:
            return action(load(tree, overrides))
        except AjetError as error:
            _report(" ".join(str(error).split()))
            exit_codes.append(_exit_code(error))
        except (OSError, SystemExit, KeyboardInterrupt) as error:
            exit_codes.append(_failed(error))
        return None

    register()
    with _process_arguments(arguments):
        hydra.main(version_base=VERSION_BASE, config_path=str(conf_dir()), config_name=config_name)(job)()
    return max(exit_codes)


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


@contextmanager
def _process_arguments(arguments: Sequence[str]) -> Iterator[None]:
    """Hydra reads `sys.argv`; put the arguments there while it runs."""
    kept = sys.argv
    sys.argv = [kept[0], *arguments]
    try:
        yield
    finally:
        sys.argv = kept


def _report(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
