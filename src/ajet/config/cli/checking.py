"""Everything that can be checked about a command line before a directory is made or a library loaded.

In: a command as Hydra reads it and the entry's own `load`. Out: Hydra's overrides, which place the output, or an error
in one sentence.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from ajet.config.cli.arguments import CommandLine, quoted
from ajet.config.cli.placing import Placed, place_run, place_sweep
from ajet.config.compose import compose_tree, with_folder
from ajet.config.fields import password_shown, shows_password
from ajet.config.hydra_private import grid_jobs
from ajet.config.options import parsed
from ajet.config.root import Config, PlayConfig
from ajet.config.sweeps.axis import expand_axis
from ajet.config.sweeps.command import check_repeatable, check_search, plan_of
from ajet.config.sweeps.records import write_plan
from ajet.config.unused import training_only_settings, unused_settings
from ajet.errors import ConfigError

C = TypeVar("C")


def check_ahead(
    config_name: str,
    command: CommandLine,
    load: Callable[[DictConfig, Sequence[str]], C],
    resumed_sweep: Path | None,
) -> Placed:
    """Validate every job of the command line; returns where its output goes."""
    overrides, flags = command.overrides, command.flags
    # Before any of them is written down: a sweep's plan holds them as they are, whatever a sweeper makes of them.
    for override in overrides:
        if shows_password(override):
            raise ConfigError(password_shown(override.partition("=")[0].lstrip("+")))
    fixed = [str(item.input_line) for item in parsed(overrides) if not item.is_sweep_override()]
    tree = compose_tree(fixed if flags.multirun else overrides, config_name=config_name, config_dir=flags.config_dir)
    if not flags.multirun and tree.hydra.mode != RunMode.MULTIRUN:
        _refuse_unused([load(_job_tree(tree), overrides)], [overrides], is_sweep=False)
        kind = OmegaConf.select(tree, "sweep.kind")
        if kind not in (None, "grid"):
            raise ConfigError(f"sweep={kind} has no effect on a single run: add -m, or drop it")
        place = place_run(tree, overrides)
        return replace(place, overrides=[*place.overrides, *with_folder(overrides, flags.config_dir)])
    if OmegaConf.select(tree, "resume") is not None:
        raise ConfigError("resume continues one run, or a sweep by its directory: drop -m")
    check_search(tree)
    overrides = expand_axis(tree, overrides)
    swept = [*(f"{key}={value}" for key, value in (tree.hydra.sweeper.params or {}).items()), *overrides]
    # Other sweepers choose their values as they go; their jobs are validated when they start.
    jobs = grid_jobs(str(tree.hydra.sweeper._target_), parsed(swept))
    if jobs is not None:
        trees = (compose_tree(job, config_name=config_name, config_dir=flags.config_dir) for job in jobs)
        loaded = [load(_job_tree(tree), job) for tree, job in zip(trees, jobs, strict=True)]
        _refuse_unused(loaded, jobs, is_sweep=True)
    # Absolute, for a job's workflow may change the directory of the process.
    sweep = (resumed_sweep or place_sweep(tree, overrides)).absolute()
    if resumed_sweep is None:
        write_plan(sweep, plan_of(config_name, command.arguments, swept, jobs))
    else:
        check_repeatable(tree)
    placed = [override for override in overrides if not override.startswith("hydra.sweep.dir=")]
    asked = [f"hydra.sweep.dir={quoted(str(sweep))}", *with_folder(placed, flags.config_dir)]
    return Placed(overrides=asked, sweep=sweep)


def _refuse_unused(configs: Sequence[object], overrides: Sequence[Sequence[str]], *, is_sweep: bool) -> None:
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
        idle = unused_settings(config, named, is_sweep=is_sweep) if isinstance(config, Config) else {}
        read |= {override.lstrip("+") for override in named} - set(idle)
        sentences |= idle
    for override, sentence in sentences.items():
        if override not in read:  # in a sweep, of another choice of roles say
            raise ConfigError(sentence)
    if isinstance(configs[0], PlayConfig):
        ignored = training_only_settings(overrides[0])
        if ignored:
            print(f"note: playing without training does not read {', '.join(ignored)}", file=sys.stderr, flush=True)


def _job_tree(tree: DictConfig) -> DictConfig:
    """The tree that a job will see; the current directory stands in for its own, which does not exist yet."""
    with read_write(tree.hydra.runtime), open_dict(tree.hydra.runtime):
        tree.hydra.runtime.output_dir = os.getcwd()
    HydraConfig.instance().set_config(tree)
    job = tree.copy()
    with open_dict(job):
        del job["hydra"]
    return job
