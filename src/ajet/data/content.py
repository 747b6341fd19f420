"""What a task is, as a digest: equal tasks have equal keys, in every process and on every machine.

Two keys: `whole_key` is made of everything but the id and names tasks that have none; `content_key` is made of what is
asked and keeps held-out tasks apart, however their bookkeeping (an index, the name of a split) differs.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from ajet.errors import ConfigError
from ajet.records import Task

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def whole_key(task: Task, *, place: str) -> str:
    """A digest of everything in a task but its id.

    Raises:
        ConfigError: something in it is not the same in another process; `place` says where the task stands.
    """
    return _digest(_everything(task), place)


def content_key(task: Task, names: Sequence[str] | None = None, *, place: str | None = None) -> str:
    """A digest of what a task asks; white space counts once, and characters however they are composed.

    Args:
        task: with its id.
        names: task fields and metadata that it is made of; None: the question, or everything where there is none.
        place: where the task stands, for errors; None: its id.

    Raises:
        ConfigError: the task has no such field.
    """
    fields = {"main_query": task.main_query, "init_messages": task.init_messages, "env_type": task.env_type}
    if names is not None:
        known = {**task.metadata, **fields}
        absent = [name for name in names if name not in known]
        if absent:
            where = place or f"task {task.task_id}"
            raise ConfigError(f"{where}: there is no {absent[0]!r} (data.content); it has {', '.join(known)}")
        asked: Any = {name: known[name] for name in names}
    else:
        asked = fields if task.main_query or task.init_messages else _everything(task)
    return _digest(asked, place or f"task {task.task_id}", folded=True)


def _everything(task: Task) -> Any:
    return [task.main_query, task.init_messages, task.env_type, task.metadata]


def _digest(content: Any, place: str, *, folded: bool = False) -> str:
    try:
        text = json.dumps(_plain(content, place, folded), sort_keys=True, ensure_ascii=False)
    except (ValueError, RecursionError) as error:  # of integers with thousands of digits, and of cycles
        why = "nests too deeply or holds itself" if isinstance(error, RecursionError) else str(error)
        raise ConfigError(f"{place}: a task's content cannot be told from another's: {why}") from error
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _plain(value: Any, place: str, folded: bool) -> Any:
    """The value as JSON has it, without anything that differs from process to process."""
    if isinstance(value, str):
        return unicodedata.normalize("NFC", " ".join(value.split())) if folded else value
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(part, place, folded) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part, place, folded) for part in value]
    if isinstance(value, set | frozenset):
        return sorted(repr(part) for part in value)
    text = repr(value)
    if _ADDRESS.search(text):
        raise ConfigError(
            f"{place}: a value of type {type(value).__name__} says nothing of its content: give tasks plain values, or "
            "an id each and data.content without it"
        )
    return text
