"""What was read: mappings that know where they came from. No row is judged here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ajet.errors import ConfigError
from ajet.records import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """One task to be."""

    place: str
    """Where it stands, for errors, e.g. `train.jsonl, line 3`."""
    values: Mapping[str, Any] | Task


def rows_of(made: object, source: str, setting: str) -> Sequence[TaskRow]:
    """The rows that a user's code made, the code running as they are taken.

    Args:
        made: what it returned.
        source: what it is called in `Row.place`.
        setting: what named it, with its value, for errors.

    Raises:
        ConfigError: nothing that can be gone through, or rows that cannot be tasks.
    """
    if not isinstance(made, Iterable):
        raise ConfigError(f"{setting} yields tasks or mappings; it returned {type(made).__name__}")
    rows = [TaskRow(place=f"{source}, task {number}", values=task) for number, task in enumerate(made, 1)]
    return checked_rows(rows, setting)


def checked_rows(rows: Sequence[TaskRow], setting: str) -> Sequence[TaskRow]:
    """The rows, if they can be tasks.

    Args:
        rows: as they were read.
        setting: what they were read from, with its value.

    Raises:
        ConfigError: there are none, or one is not a mapping.
    """
    if not rows:
        raise ConfigError(f"{setting} holds no tasks")
    for row in rows:
        if not isinstance(row.values, Mapping | Task):
            raise ConfigError(f"{row.place}: a task is a mapping of fields, not {type(row.values).__name__}")
    return rows
