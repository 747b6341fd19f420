"""Rows -> tasks: fields by their configured columns, ids that stay the same from run to run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ajet.data.content import whole_key
from ajet.data.rows import TaskRow
from ajet.errors import ConfigError
from ajet.records import Task

TASK_FIELDS = ("task_id", "main_query", "init_messages", "env_type")
_ID_LENGTH = 16


def make_tasks(rows: Sequence[TaskRow], columns: Mapping[str, str]) -> list[Task]:
    """One task a row, in order.

    Args:
        rows: what was read.
        columns: column by task field, where the names differ; a field that is named here must be in every row.

    Raises:
        ConfigError: a missing field, question or id, an id that stands twice or a wrong kind of value, with its row.
    """
    unknown = sorted(set(columns) - set(TASK_FIELDS))
    if unknown:
        raise ConfigError(f"data.fields.{unknown[0]} is not a field of a task; choose among {', '.join(TASK_FIELDS)}")
    made = next((row.place for row in rows if isinstance(row.values, Task)), None)
    if columns and made is not None:
        raise ConfigError(f"{made}: data.fields has no effect on what is a Task already: yield mappings, or drop it")
    tasks = [_task(row, columns) for row in rows]
    has_ids = any(task.task_id for task in tasks)
    if has_ids:
        _check_ids(rows, tasks)
    _check_questions(rows, tasks)
    # Ids are of what the task is, whatever its columns were called.
    named = tasks if has_ids else _named(rows, tasks)
    return [_with_columns(row, task, columns) for row, task in zip(rows, named, strict=True)]


def _with_columns(row: TaskRow, task: Task, columns: Mapping[str, str]) -> Task:
    """The task with its question, messages and environment also where code looks for a column by the file's own name.

    The id's column is left out: two tasks that differ in nothing else would no longer be the same.
    """
    if isinstance(row.values, Task):
        return task
    kept = {column: row.values[column] for name, column in columns.items() if name not in ("task_id", column)}
    return replace(task, metadata={**kept, **task.metadata}) if kept else task


def _named(rows: Sequence[TaskRow], tasks: Sequence[Task]) -> list[Task]:
    """The tasks with ids that depend on what they are alone; the second of two equal ones is numbered."""
    repeats: Counter[str] = Counter()
    named: list[Task] = []
    for row, task in zip(rows, tasks, strict=True):
        name = whole_key(task, place=row.place)[:_ID_LENGTH]
        repeats[name] += 1
        named.append(replace(task, task_id=name if repeats[name] == 1 else f"{name}-{repeats[name]}"))
    return named


def _task(row: TaskRow, columns: Mapping[str, str]) -> Task:
    if isinstance(row.values, Task):
        return row.values
    values = dict(row.values)
    found: dict[str, Any] = {}
    for name in TASK_FIELDS:
        column = columns.get(name, name)
        if column in values:
            found[name] = values.pop(column)
        elif name in columns:
            raise ConfigError(
                f"{row.place}: there is no {column!r} (data.fields.{name}); it has {', '.join(map(str, row.values))}"
            )
    metadata = _parsed(row, "metadata", values.pop("metadata", None)) or {}
    if not isinstance(metadata, Mapping):
        raise ConfigError(f"{row.place}: metadata is a mapping, not {type(metadata).__name__}")
    return Task(
        task_id=_text(row, "task_id", found.get("task_id")),
        main_query=_text(row, "main_query", found.get("main_query")),
        init_messages=_messages(row, found.get("init_messages")),
        env_type=_text(row, "env_type", found.get("env_type")),
        metadata={**values, **metadata},
    )


def _text(row: TaskRow, name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | Mapping | list):
        raise ConfigError(f"{row.place}: {name} is a text, not {type(value).__name__}")
    return str(value)


def _messages(row: TaskRow, value: Any) -> list[Mapping[str, Any]]:
    messages = _parsed(row, "init_messages", value) or ()
    if not isinstance(messages, Sequence) or not all(isinstance(m, Mapping) and "role" in m for m in messages):
        raise ConfigError(f"{row.place}: init_messages is a list of messages, each with a role")
    return list(messages)


def _parsed(row: TaskRow, name: str, value: Any) -> Any:
    """The value, out of JSON where a format has no lists and mappings."""
    if not isinstance(value, str) or not value.strip():
        return value or None
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{row.place}: {name} is not JSON: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{row.place}: {name} nests too deep or holds too long a number") from error


def _check_questions(rows: Sequence[TaskRow], tasks: Sequence[Task]) -> None:
    asks = [bool(task.main_query.strip() or task.init_messages) for task in tasks]
    if any(asks) and not all(asks):
        place = rows[asks.index(False)].place
        raise ConfigError(f"{place}: main_query and init_messages are empty, though other tasks have a question")


def _check_ids(rows: Sequence[TaskRow], tasks: Sequence[Task]) -> None:
    first: dict[str, str] = {}
    for row, task in zip(rows, tasks, strict=True):
        if not task.task_id:
            raise ConfigError(f"{row.place}: there is no task_id, though other tasks have one")
        if task.task_id in first:
            raise ConfigError(f"{row.place}: task_id {task.task_id!r} stands at {first[task.task_id]} already")
        first[task.task_id] = row.place
