"""One job of a sweep: skipped if it finished, resumed if it was cut off, recorded however it ends.

In: Hydra's composed tree of the job and what the entry point does with it. Out: the score for Hydra's sweeper, and
`job.json`. A failure is written down and does not stop the sweep, whatever the job's code raised; the user's Ctrl-C
does, and what else asks a process to end.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from filelock import Timeout
from omegaconf import DictConfig, OmegaConf

from ajet.config.renamed import with_new_keys
from ajet.config.sweeps.records import (
    JobRecord,
    SweepPlan,
    choices_among,
    job_lock,
    job_name,
    read_job,
    read_plan,
    says_how_to_run,
    write_job,
)
from ajet.errors import AjetError, RunDirectoryError, RunInterruptedError, UserInterrupt, is_users
from ajet.tracking.files.attempts import set_aside
from ajet.tracking.files.checkpoints import saved_steps
from ajet.tracking.files.writing import write_text
from ajet.tracking.weights_and_biases import WandbConfig

C = TypeVar("C")
LOCK_PATIENCE_S = 2.0
"""Longer than a reader holds the lock to see whether the job is alive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepJob:
    """Which job of which sweep."""

    sweep: Path
    """The sweep's directory, with its `sweep.json`."""
    folder: Path
    """The job's run directory below it."""
    number: int
    """Counted from 0 in the order of the command."""
    overrides: Sequence[str]
    """All of the job's."""


def run_sweep_job(
    tree: DictConfig,
    job: SweepJob,
    load: Callable[[DictConfig, Sequence[str]], C],
    action: Callable[[C], float | None],
) -> float | None:
    """Run or skip one job.

    Args:
        tree: the job's composed configuration, without Hydra's node.
        job: which job.
        load: (tree, overrides) -> validated configuration.
        action: does the work; returns the score to optimize.

    Returns:
        The score; None where there is none, the job failed or another process is at it.

    Raises:
        UserInterrupt: Ctrl-C, after the state is written.
        RunDirectoryError: the folder holds a job with other settings.
    """
    plan = read_plan(job.sweep)
    job.folder.mkdir(parents=True, exist_ok=True)
    try:
        with job_lock(job.folder).acquire(timeout=LOCK_PATIENCE_S):
            record = _earlier_or_new(job, plan)
            if record.state == "finished" or (record.state == "failed" and plan.jobs is None):
                # A search repeats its choices only if each job ends as it did.
                print(f"job {job.number} ({record.name}): {record.state} before", flush=True)
                return record.score
            print(f"job {job.number} ({record.name})", flush=True)
            return _attempt(tree, job, record, load, action)
    except Timeout:
        print(f"job {job.number}: runs in another process, left to it", flush=True)
        return None


def _earlier_or_new(job: SweepJob, plan: SweepPlan) -> JobRecord:
    overrides = list(job.overrides)
    if not (job.folder / "job.json").is_file():
        choices = choices_among(plan.axes, overrides)
        return JobRecord(number=job.number, overrides=overrides, choices=choices, state="pending", started_at=_now())
    earlier = read_job(job.folder)
    if _what(earlier.overrides) != _what(overrides):
        raise RunDirectoryError(
            f"{job.folder} holds another job ({earlier.name}): start a new sweep for other settings"
        )
    return earlier


def _what(overrides: Sequence[str]) -> list[str]:
    """By today's keys; without the launcher, whose place in the command changes when another is named."""
    return [override for override in with_new_keys(overrides) if not says_how_to_run(override)]


def _attempt(
    tree: DictConfig,
    job: SweepJob,
    record: JobRecord,
    load: Callable[[DictConfig, Sequence[str]], C],
    action: Callable[[C], float | None],
) -> float | None:
    folder = job.folder
    record = replace(record, state="running", attempts=record.attempts + 1, error=None)
    write_job(folder, record)
    try:
        score = action(_load_or_resume(tree, job, record, load))
    except RunInterruptedError as stop:
        write_job(folder, replace(record, state="unfinished", ended_at=_now()))
        raise UserInterrupt(stop.signum) from stop
    except AjetError as error:
        _fail(folder, record, " ".join(str(error).split()))
        return None
    except BaseException as error:
        if is_users(error):
            write_job(folder, replace(record, state="unfinished", ended_at=_now()))
            raise
        # A sweep's boundary: whatever a job does wrong, the others are worth having.
        write_text(folder / "error.txt", traceback.format_exc())
        _fail(folder, record, " ".join(f"{type(error).__name__}: {error}".split()))
        return None
    write_job(folder, replace(record, state="finished", ended_at=_now(), score=score))
    return score


def _load_or_resume(
    tree: DictConfig, job: SweepJob, record: JobRecord, load: Callable[[DictConfig, Sequence[str]], C]
) -> C:
    """The job's configuration: that of its last checkpoint's run, if there is one, else a fresh one."""
    folder = job.folder
    if saved_steps(folder):
        tree.resume = str(folder)
        return load(tree, [])
    set_aside(folder)
    _label(tree, job.sweep, record)
    return load(tree, record.overrides)


def _label(tree: DictConfig, sweep: Path, record: JobRecord) -> None:
    """Tell W&B which runs belong together and what tells them apart, unless the user did or W&B is off."""
    wandb = OmegaConf.select(tree, "logger.wandb")
    if wandb is None or WandbConfig(mode=wandb.mode).mode_in_use() == "disabled":
        return
    if wandb.group is None and "WANDB_RUN_GROUP" not in os.environ:
        wandb.group = "-".join(sweep.resolve().parts[-2:])
    if wandb.name is None and "WANDB_NAME" not in os.environ:
        wandb.name = job_name(record.choices) or None


def _fail(folder: Path, record: JobRecord, error: str) -> None:
    write_job(folder, replace(record, state="failed", ended_at=_now(), error=error))
    print(f"error: job {record.number} ({record.name}): {error}", file=sys.stderr, flush=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
