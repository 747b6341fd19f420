"""A call from Python: what a command does, for a script, a thread or a notebook.

In: overrides as on the command line and what the command does with its configuration. Out: the run directory. Mistakes
are raised as the errors whose sentences the command prints. Nothing of the process is changed for good: its loggers,
its `sys.argv` and its own use of Hydra are as they were.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from ajet.config.cli.arguments import CommandLine, overrides_of, quoted, read
from ajet.config.cli.checking import check_ahead
from ajet.config.cli.commands import command_of
from ajet.config.cli.ending import ending_signals, run_on_own_thread
from ajet.config.cli.latest import with_latest
from ajet.config.cli.process import interrupt
from ajet.config.compose import compose_tree
from ajet.config.explain import explain
from ajet.config.hardware import prepare_process
from ajet.config.hydra_private import TURN, kept_hydra, run_jobs
from ajet.config.store import SCHEMAS
from ajet.config.sweeps.command import sweep_to_resume
from ajet.config.user_code.cells import KeptSource
from ajet.config.user_code.lines import one_line
from ajet.errors import AjetError, ConfigError, WorkflowError, is_users
from ajet.tracking.files.provenance import asked

C = TypeVar("C")
HYDRAS_OWN = ("hydra.run.dir", "hydra.searchpath")
"""What a call may set of Hydra: the rest is about a process that it does not own, or about sweeps."""
_called: ContextVar[str | None] = ContextVar("called", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """A command, as a call from Python gives it."""

    name: str
    """Of the function, e.g. `ajet.train`."""
    config_name: str
    """The primary YAML file."""
    overrides: Sequence[str]
    source: KeptSource | None = None
    """A workflow's, which has no file yet."""


def arguments_of(overrides: Sequence[object], settings: Mapping[str, object]) -> list[str]:
    """Positional overrides and keyword arguments, as a command line has them.

    Raises:
        ConfigError: something that is not an override.
    """
    for override in overrides:
        if not isinstance(override, str) or "=" not in override:
            raise ConfigError(f"{override!r} is not an override: write 'key=value', or key=value as a keyword argument")
    return [*map(str, overrides), *overrides_of(settings)]


def run_of_workflow(
    workflow: object,
    overrides: Sequence[str],
    settings: Mapping[str, object],
    *,
    config_name: str,
    load: Callable[[DictConfig, Sequence[str]], C],
    action: Callable[[C], object],
) -> Path:
    """Do what a command would that plays a workflow; returns the directory that it wrote.

    Args:
        workflow: as `name_workflow` takes it.
        overrides: as on the command line.
        settings: overrides as keyword arguments.
        config_name: the primary YAML file.
        load: as `run_entry` takes it.
        action: likewise.

    Raises:
        AjetError: as `run_call`.
    """
    from ajet.workflows.naming import name_workflow  # loads pydantic

    name = f"ajet.{command_of(config_name)}"
    with alone(name):  # a notebook's cells may be run anew
        named = name_workflow(workflow)
    arguments = arguments_of(overrides, settings)
    _check_named_once(named.overrides, arguments, name=name)
    asked = [*named.overrides, *arguments]
    call = Invocation(name=name, config_name=config_name, overrides=asked, source=named.source)
    return run_call(call, load, action)


def _check_named_once(named: Sequence[str], asked: Sequence[str], *, name: str) -> None:
    """Refuse a second workflow among the overrides beside the one that the call was given.

    Raises:
        ConfigError: the second one.
    """
    keys = {override.partition("=")[0] for override in named}
    for override in asked:
        key = override.lstrip("+").partition("=")[0]
        if named and (key in keys or key == "workflow"):
            raise ConfigError(
                f"{name} was given a workflow already, {named[-1].partition('=')[2]}: leave {override} out"
            )


def run_call(call: Invocation, load: Callable[[DictConfig, Sequence[str]], C], action: Callable[[C], object]) -> Path:
    """Do what the command would; returns the directory that it wrote.

    Where an event loop runs on this thread, as in a notebook, the work is done on another one while this one waits.

    Args:
        call: what is asked for.
        load: as `run_entry` takes it.
        action: likewise.

    Raises:
        ConfigError: a setting cannot work; nothing was created or loaded.
        RunInterruptedError: Ctrl-C; the state is saved and the message says how to resume.
        AjetError: the run failed or stopped itself.
    """

    def work() -> Path:
        with alone(call.name), ending_signals(interrupt):
            return _run(call, load, action)

    return run_on_own_thread(work) if _has_loop() else work()


def _has_loop() -> bool:
    """Whether an event loop runs on this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Refuse to be called by what is being loaded or played, such as a script that trains whenever it is imported.

    Raises:
        ConfigError: another call, or a command, is at work around this one.
    """
    outer = _called.get()
    if outer is not None:
        raise ConfigError(
            f"{name} is called by code that {outer} loads or plays: in a script, put the call under "
            'if __name__ == "__main__":'
        )
    token = _called.set(name)
    try:
        yield
    finally:
        _called.reset(token)


def _run(call: Invocation, load: Callable[[DictConfig, Sequence[str]], C], action: Callable[[C], object]) -> Path:
    prepare_process()
    overrides = list(call.overrides)
    try:
        with TURN, kept_hydra():
            config, folder, log = _configured(call, load)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, SCHEMAS[call.config_name], overrides)) from error
    try:
        with _logging_to(folder / f"{log}.log"):
            action(config)
    except (SystemExit, KeyboardInterrupt) as error:
        if is_users(error):
            raise
        raise WorkflowError(f"the run was ended by {one_line(error)}") from error
    finally:
        asked.set(None)
    return folder


def _configured(call: Invocation, load: Callable[[DictConfig, Sequence[str]], C]) -> tuple[C, Path, str]:
    """Check, make the directory with Hydra's record, load; returns the configuration, the directory, the log's name."""
    command = read(call.overrides)
    if command.flag_arguments:
        raise ConfigError(f"{command.flag_arguments[0]} is a flag of the command: python -m {call.name} takes it")
    command = replace(command, overrides=with_latest(command.overrides))
    _check_ours(command.overrides, call.name)
    placed = _placed(call, command, load)
    outcome: list[tuple[C, Path, str] | AjetError] = []

    def job(tree: DictConfig) -> None:
        about = HydraConfig.get()
        try:
            outcome.append((load(tree, list(about.overrides.task)), Path(about.runtime.output_dir), about.job.name))
        except AjetError as error:  # Hydra would print it
            outcome.append(error)

    asked.set([call.name, *placed])
    run_jobs(call.config_name, job, placed, logs=False)
    (found,) = outcome
    if isinstance(found, AjetError):
        raise found
    return found


def _check_ours(overrides: Sequence[str], name: str) -> None:
    """Refuse what only the command does.

    Raises:
        ConfigError: the first such override.
    """
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0]
        if key.startswith(("hydra.", "hydra/")) and key not in HYDRAS_OWN:
            raise ConfigError(f"{key} has no effect on a call from Python, only on the command: python -m {name}")
    sweep = sweep_to_resume(overrides)
    if sweep is not None:
        raise ConfigError(f"{sweep} is a sweep: python -m {name} resume={sweep}")


def _placed(call: Invocation, command: CommandLine, load: Callable[[DictConfig, Sequence[str]], C]) -> list[str]:
    """Overrides that name everything, checked; a source without a file is written where the run will be."""
    if call.source is None:
        return check_ahead(call.config_name, command, load, resumed_sweep=None).overrides
    with TemporaryDirectory() as folder:
        entry = f"workflow.entry={quoted(call.source.write(Path(folder)))}"
        checked = replace(command, overrides=[*command.overrides, entry])
        placed = check_ahead(call.config_name, checked, load, resumed_sweep=None).overrides
    run_dir = Path(compose_tree(placed, config_name=call.config_name).hydra.run.dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    written = f"workflow.entry={quoted(call.source.write(run_dir))}"
    return [written if override == entry else override for override in placed]


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Let what libraries log go to the run's file, too, as the command's logging does; the program's own stays."""
    root = logging.getLogger()
    level, is_bare = root.level, not root.handlers
    to_file = logging.FileHandler(path)
    handlers: list[logging.Handler] = [to_file]
    if is_bare:
        to_console = logging.StreamHandler()
        to_console.setLevel(logging.WARNING)
        handlers.append(to_console)
        root.setLevel(logging.INFO)
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
        root.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            root.removeHandler(handler)
        to_file.close()
        root.setLevel(level)
