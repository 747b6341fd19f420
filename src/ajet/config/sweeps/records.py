"""What a sweep leaves on disk for whoever resumes it or reports on it.

`<sweep>/sweep.json` holds the command and the jobs that it means; `<sweep>/<number>/job.json` one job's state. Both are
replaced whole, so a reader never sees half of one. Left out: metrics, which lie in the job's run directory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from ajet.errors import RunDirectoryError
from ajet.tracking.files.reading import damaged, read_json
from ajet.tracking.files.signing import is_own, signature
from ajet.tracking.files.writing import write_json, writing

R = TypeVar("R")
STATES = ("pending", "running", "finished", "failed", "unfinished")
"""`pending`: not started yet. `unfinished`: interrupted or killed. Only `finished` jobs are skipped on resume."""

HOW_TO_RUN = ("launcher", "hydra/launcher", "hydra.launcher", "sweep.batch_size", "trust_code")
"""What may change when a sweep is resumed: how its jobs are run, not what they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPlan:
    """`sweep.json`."""

    config_name: str
    """The entry point: `train` or `evaluate`."""
    directory: str
    """Where the command was given; relative paths in it count from there."""
    arguments: list[str]
    """Hydra's arguments without those that place the output."""
    axes: list[str]
    """The keys whose values differ from job to job, in the command's order."""
    jobs: list[list[str]] | None
    """Each job's overrides, by job number; None where a search chooses them as it goes."""
    signature: str | None = None
    """Whose sweep it is: of the rest, by the user who started it."""

    @property
    def is_own(self) -> bool:
        """Whether this user wrote it. A command line names classes and files that are run."""
        return is_own(_signed(self), self.signature)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """`job.json`.

    Example: `JobRecord(number=3, overrides=["workflow=signals", "seed=1"], choices={"seed": "1"}, state="finished",
    attempts=1, started_at="2026-01-31T10:00:00+00:00", ended_at="2026-01-31T10:05:00+00:00", score=0.5)`.
    """

    number: int
    """The job's folder below the sweep's."""
    overrides: list[str]
    """All of the job's overrides."""
    choices: dict[str, str]
    """Only those that tell it from the other jobs: key -> value as written."""
    state: str
    """One of `STATES`."""
    attempts: int = 0
    """How often it was started, resuming included."""
    started_at: str | None = None
    """Of the first attempt; ISO 8601, UTC."""
    ended_at: str | None = None
    """Of the last attempt that ended."""
    error: str | None = None
    """Why it failed, in one line; the whole traceback is in `error.txt` beside it unless ajet raised it on purpose."""
    score: float | None = None
    """What the job returned to Hydra: the final held-out score, which a search maximizes."""

    @property
    def name(self) -> str:
        """What differs, e.g. `trainable_targets=[seer] seed=1`; the number where nothing does."""
        return job_name(self.choices) or str(self.number)


def job_name(choices: Mapping[str, str]) -> str:
    """Choices in one line."""
    return " ".join(f"{key}={value}" for key, value in choices.items())


def choices_among(axes: list[str], overrides: list[str]) -> dict[str, str]:
    """The overrides of the sweep's axes, by key."""
    pairs = dict(override.lstrip("+").split("=", 1) for override in overrides if "=" in override)
    return {axis: pairs[axis] for axis in axes if axis in pairs}


def says_how_to_run(override: str) -> bool:
    """Whether an override is about running jobs alone."""
    key = override.partition("=")[0].lstrip("+")
    return any(key == how or key.startswith(f"{how}.") for how in HOW_TO_RUN)


def is_sweep(folder: Path) -> bool:
    """Whether a sweep was started in the folder."""
    return (folder / "sweep.json").is_file()


def write_plan(sweep: Path, plan: SweepPlan) -> None:
    """Write `sweep.json`."""
    with writing(sweep):
        sweep.mkdir(parents=True, exist_ok=True)
    write_json(sweep / "sweep.json", asdict(replace(plan, signature=signature(_signed(plan)))))


def _signed(plan: SweepPlan) -> dict[str, Any]:
    return asdict(replace(plan, signature=None))


def read_plan(sweep: Path) -> SweepPlan:
    """Read `sweep.json`.

    Raises:
        RunDirectoryError: there is none.
    """
    path = sweep / "sweep.json"
    plan = _read(path, SweepPlan, f"{sweep} is not a sweep's directory: it holds no sweep.json")
    texts = [plan.config_name, plan.directory, *_items(plan.arguments), *_items(plan.axes)]
    texts += [text for job in _items([] if plan.jobs is None else plan.jobs) for text in _items(job)]
    if not all(isinstance(text, str) for text in texts):
        raise damaged(path, "it does not say which jobs there are")
    return plan


def write_job(folder: Path, record: JobRecord) -> None:
    """Write `job.json`."""
    write_json(folder / "job.json", asdict(record))


def read_job(folder: Path) -> JobRecord:
    """Read `job.json` as it was written; a job that was killed still says `running` there.

    Raises:
        RunDirectoryError: there is none.
    """
    path = folder / "job.json"
    record = _read(path, JobRecord, f"{folder} is not a job of a sweep: it holds no job.json")
    texts = [*_items(record.overrides), *_items(list(record.choices) if isinstance(record.choices, dict) else None)]
    is_job = isinstance(record.number, int) and isinstance(record.attempts, int) and record.state in STATES
    if not is_job or not all(isinstance(text, str) for text in texts):
        raise damaged(path, "it does not say which job it is")
    return replace(record, choices={key: str(value) for key, value in record.choices.items()})


def job_lock(folder: Path) -> FileLock:
    """Held by the process that runs the job; the system frees it when that process dies, however it dies."""
    return FileLock(folder / "job.lock")


def read_jobs(sweep: Path) -> list[JobRecord]:
    """All jobs of a sweep by number, as they stand now, also while it runs and after it was killed.

    Raises:
        RunDirectoryError: the folder holds no sweep.
    """
    plan = read_plan(sweep)
    planned = {number: overrides for number, overrides in enumerate(plan.jobs or [])}
    jobs = {
        number: JobRecord(
            number=number, overrides=overrides, choices=choices_among(plan.axes, overrides), state="pending"
        )
        for number, overrides in planned.items()
    }
    for path in sweep.glob("*/job.json"):
        record = read_job(path.parent)
        if record.state == "running" and not _is_held(path.parent):
            record = replace(record, state="unfinished")
        jobs[record.number] = record
    return [jobs[number] for number in sorted(jobs)]


def _is_held(folder: Path) -> bool:
    try:
        with job_lock(folder).acquire(blocking=False):
            return False
    # Whoever may only read cannot ask the lock, and takes the record's word.
    except (Timeout, PermissionError):
        return True


def _items(value: Any) -> list[Any]:
    """A list's items; of anything else one that is not a text."""
    return value if isinstance(value, list) else [None]


def _read(path: Path, kind: type[R], complaint: str) -> R:
    """The record that a file holds; `complaint` says what it means that there is none."""
    if not path.is_file():
        raise RunDirectoryError(complaint)
    content: dict[str, Any] = read_json(path, dict)
    try:
        return kind(**content)
    except TypeError as error:  # fields of another version, or made up
        raise damaged(path, error) from error
