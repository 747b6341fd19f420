"""All of Hydra that ajet uses and Hydra does not promise to keep, apart from the rest.

docs/design.md says of each part why no public way serves. In: names and overrides. Out: what Hydra makes of them.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from threading import RLock
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobRuntime
from hydra.types import RunMode
from hydra.version import VersionBase
from omegaconf import DictConfig

from ajet.config.store import conf_dir, register
from ajet.errors import ConfigError

VERSION_BASE = "1.3"
AMBIGUOUS = "Ambiguous value"
"""How Hydra's message begins where a key has several values and no sweep is asked for."""
TURN = RLock()
"""Held while a configuration is composed; not while a job runs."""


def flag_parser() -> ArgumentParser:
    """The parser of Hydra's flags and overrides, which raises `ArgumentError` instead of ending the process."""
    parser = get_args_parser()
    parser.exit_on_error = False
    return parser


def grid_jobs(sweeper: str, overrides: Sequence[Override]) -> list[list[str]] | None:
    """The overrides of each job of a sweep, in the order in which they will run.

    Args:
        sweeper: the class that `hydra.sweeper._target_` names.
        overrides: parsed, swept ones included.

    Returns:
        None where another sweeper than Hydra's own chooses values as it goes.

    Raises:
        ConfigError: a range without steps, which Hydra's own sweeper cannot run through.
    """
    if not sweeper.endswith("BasicSweeper"):
        return None
    values: dict[str, list[str]] = {}
    for override in overrides:  # of a key that is said twice, the last
        is_swept = override.is_sweep_override()
        if is_swept and not override.is_discrete_sweep():
            raise ConfigError(f"{override.input_line} lists no values to sweep: list them, or search with sweep=optuna")
        said = override.sweep_string_iterator() if is_swept else [override.get_value_element_as_str()]
        key = override.get_key_element()
        values[key] = [f"{key}={value}" for value in said]
    return [list(job) for job in product(*values.values())]


def run_jobs(
    config_name: str,
    job: Callable[[DictConfig], Any],
    overrides: Sequence[str],
    *,
    multirun: bool = False,
    logs: bool = True,
) -> Any:
    """Let Hydra make the output directory, write `.hydra/` and call `job`, once or once for each job of a sweep.

    Args:
        config_name: the primary YAML file.
        job: takes the composed tree without its `hydra` node.
        overrides: those that place the output included.
        multirun: whether it is a sweep.
        logs: whether Hydra sets up Python's logging, of the whole process.

    Returns:
        What the single job returned; a sweep's sweeper's answer.
    """
    mode = RunMode.MULTIRUN if multirun else RunMode.RUN
    asked = [*overrides, f"hydra.mode={mode.name}"]
    with own_hydra(config_name):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        if multirun:
            return hydra.multirun(config_name, job, asked, with_log_configuration=logs)
        return hydra.run(config_name, job, asked, with_log_configuration=logs).return_value


@contextmanager
def own_hydra(config_name: str) -> Iterator[None]:
    """Hydra set up for ajet's YAML files, and afterwards as it was.

    Hydra keeps one state a process: callers on several threads take `TURN`.
    """
    register()
    with kept_hydra():
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(conf_dir()), job_name=config_name, version_base=VERSION_BASE):
            yield


@contextmanager
def kept_hydra() -> Iterator[None]:
    """Put Hydra's state back in the end, for the program may be a Hydra application itself."""
    state, about, runtime, version = (
        GlobalHydra.instance(),
        HydraConfig.instance(),
        JobRuntime.instance(),
        VersionBase.instance(),
    )
    kept = state.hydra, about.cfg, runtime.get("name"), version.getbase()
    try:
        yield
    finally:
        GlobalHydra.set_instance(state)
        state.hydra, about.cfg = kept[0], kept[1]
        runtime.set("name", kept[2])
        version.version_base = kept[3]
