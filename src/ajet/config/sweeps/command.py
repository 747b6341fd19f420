"""The command line of a sweep: what is written down before its first job, and how it is said again to resume.

In: Hydra's overrides. Out: `sweep.json`, or the arguments of the sweep that `resume` names.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from ajet.config.options import parsed
from ajet.config.sweeps.records import HOW_TO_RUN, JobRecord, SweepPlan, is_sweep, read_jobs, read_plan, says_how_to_run
from ajet.errors import ConfigError


def sweep_to_resume(overrides: Sequence[str]) -> Path | None:
    """The sweep's directory that `resume` names; None where it names a run, or is not given."""
    named = [Path(str(override.value())) for override in parsed(overrides) if override.key_or_group == "resume"]
    return next(filter(is_sweep, named), None)


def repeated_arguments(sweep: Path, overrides: Sequence[str], config_name: str) -> list[str]:
    """The arguments that the sweep was started with, with other settings of its launcher if there are any.

    Args:
        sweep: its directory.
        overrides: of the command that resumes it, `resume` included.
        config_name: the entry point's.

    Raises:
        ConfigError: another entry point's sweep, another working directory, or a setting that makes other jobs.
    """
    plan = read_plan(sweep)
    if plan.config_name != config_name:
        raise ConfigError(
            f"{sweep} is a sweep of ajet.{plan.config_name}: resume it with python -m ajet.{plan.config_name}"
        )
    if Path(plan.directory) != Path.cwd():
        raise ConfigError(f"{sweep} was started in {plan.directory}: resume it from there")
    changed = [override for override in parsed(overrides) if override.key_or_group != "resume"]
    if not plan.is_own and not any(item.key_or_group == "trust_code" and item.value() is True for item in changed):
        raise ConfigError(
            f"resume={sweep} would run python -m ajet.{config_name} {' '.join(plan.arguments)}, and it is not recorded "
            "as a sweep that you started: look at it, and allow it with trust_code=true"
        )
    for override in changed:
        if not says_how_to_run(str(override.input_line)):
            raise ConfigError(
                f"resume continues a sweep as it was, so {override.key_or_group} cannot change; "
                f"only {', '.join(HOW_TO_RUN)} can"
            )
    replaced = {override.key_or_group for override in changed}
    kept = [argument for argument in plan.arguments if argument.partition("=")[0].lstrip("+") not in replaced]
    return [*kept, *(str(override.input_line) for override in changed)]


def check_search(tree: DictConfig) -> None:
    """Refuse a search whose jobs return no score.

    Raises:
        ConfigError: the final evaluation is off.
    """
    if OmegaConf.select(tree, "sweep.kind") == "optuna" and not tree.eval.last:
        raise ConfigError("eval.last=false leaves sweep=optuna no score to look for: drop it")


def check_repeatable(tree: DictConfig) -> None:
    """Refuse to resume a search that would not come to the same jobs again.

    Raises:
        ConfigError: its choices are random anew, or its memory is a database of its own.
    """
    sweeper = tree.hydra.sweeper
    if not str(sweeper._target_).endswith("OptunaSweeper"):
        return
    if sweeper.storage is not None:
        raise ConfigError(
            "a search with hydra.sweeper.storage continues there: start a new sweep with its hydra.sweeper.study_name"
        )
    if OmegaConf.select(sweeper, "sampler.seed") is None:
        raise ConfigError("a search without hydra.sweeper.sampler.seed cannot be repeated up to where it was killed")


def swept_keys(overrides: Sequence[str]) -> list[str]:
    """Keys that get more than one value."""
    return [override.key_or_group for override in parsed(overrides) if override.is_sweep_override()]


def outcome(sweep: Path) -> tuple[list[str], bool]:
    """What became of the jobs, in lines for the console, and whether all of them finished."""
    jobs = read_jobs(sweep)
    counts = {state: sum(job.state == state for job in jobs) for state in dict.fromkeys(job.state for job in jobs)}
    lines = [f"sweep {sweep}: {', '.join(f'{count} {state}' for state, count in counts.items())}"]
    lines += [f"  {_line(job)}" for job in jobs if job.state != "finished"]
    done = all(job.state == "finished" for job in jobs)
    if not done:
        lines.append(f"resume, failed jobs included, with: {resume_command(sweep)}")
    return lines, done


def resume_command(sweep: Path) -> str:
    """The shell command that resumes the sweep."""
    return f"python -m ajet.{read_plan(sweep).config_name} resume={sweep}"


def plan_of(
    config_name: str, arguments: Sequence[str], overrides: Sequence[str], jobs: list[list[str]] | None
) -> SweepPlan:
    """The record of a sweep that is about to start.

    Args:
        config_name: the entry point's.
        arguments: Hydra's, as given.
        overrides: those among them, spelled out, and the sweeper's own.
        jobs: each job's overrides; None where a search chooses them.
    """
    return SweepPlan(
        config_name=config_name,
        directory=os.getcwd(),
        arguments=list(arguments),
        axes=swept_keys(overrides),
        jobs=jobs,
    )


def _line(job: JobRecord) -> str:
    return f"job {job.number} ({job.name}): {job.state}" + (f": {job.error}" if job.error else "")
