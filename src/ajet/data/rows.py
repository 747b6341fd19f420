"""Files, datasets and functions -> rows: mappings that know where they came from. No row is judged here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ajet.errors import ConfigError
from ajet.importing import load_object
from ajet.records import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One task to be."""

    place: str
    """Where it stands, for errors, e.g. `train.jsonl, line 3`."""
    values: Mapping[str, Any] | Task


def read_rows(reader: str, path: str, *, subset: str | None, split: str) -> list[Row]:
    """All rows, in their order.

    Args:
        reader: as in `data.reader`, `seeds` excepted.
        path: file, folder, hub id or function.
        subset: of a Hugging Face dataset.
        split: of a Hugging Face dataset.

    Raises:
        ConfigError: nothing there, nothing in it, or a row that is not a mapping.
    """
    if reader == "python":
        rows = _from_function(path)
    elif reader == "huggingface":
        rows = _from_dataset(path, subset, split)
    else:
        file = Path(path)
        if not file.is_file():
            raise ConfigError(f"data.path: there is no file {path}")
        rows = [Row(place=f"{file.name}, {place}", values=values) for place, values in FILES[reader](file)]
    if not rows:
        raise ConfigError(f"data.path={path} holds no tasks")
    for row in rows:
        if not isinstance(row.values, Mapping | Task):
            raise ConfigError(f"{row.place}: a task is a mapping of fields, not {type(row.values).__name__}")
    return rows


def _jsonl(file: Path) -> Iterable[tuple[str, Any]]:
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            yield f"line {number}", _parsed(line, f"{file.name}, line {number}")


def _json(file: Path) -> Iterable[tuple[str, Any]]:
    loaded = _parsed(file.read_text(encoding="utf-8"), file.name)
    if not isinstance(loaded, list):
        raise ConfigError(f"{file.name}: a JSON file of tasks is a list of objects, not {type(loaded).__name__}")
    return ((f"item {number}", values) for number, values in enumerate(loaded, 1))


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{place}: no JSON: {error}") from error


def _csv(file: Path) -> Iterable[tuple[str, Any]]:
    from pyarrow import ArrowInvalid, csv

    try:
        table = csv.read_csv(file, parse_options=csv.ParseOptions(newlines_in_values=True))
    except ArrowInvalid as error:
        raise ConfigError(f"{file.name}: no CSV: {' '.join(str(error).split())}") from error
    return _numbered(table.to_pylist())


def _parquet(file: Path) -> Iterable[tuple[str, Any]]:
    from pyarrow import ArrowInvalid, parquet

    try:
        return _numbered(parquet.read_table(file).to_pylist())
    except ArrowInvalid as error:
        raise ConfigError(f"{file.name}: no parquet: {' '.join(str(error).split())}") from error


def _numbered(rows: Iterable[Any]) -> Iterable[tuple[str, Any]]:
    return ((f"row {number}", values) for number, values in enumerate(rows, 1))


FILES: Mapping[str, Callable[[Path], Iterable[tuple[str, Any]]]] = {
    "jsonl": _jsonl,
    "json": _json,
    "csv": _csv,
    "parquet": _parquet,
}


def _from_function(entry: str) -> list[Row]:
    function = load_object(entry, setting="data.path")
    return [Row(place=f"{entry}, task {number}", values=task) for number, task in enumerate(function(), 1)]


def _from_dataset(path: str, subset: str | None, split: str) -> list[Row]:
    import datasets  # takes seconds

    try:
        loaded: Sequence[Any] = datasets.load_dataset(path, subset, split=split)
    except (OSError, ValueError) as error:  # among them unknown splits and configurations, which it lists
        raise ConfigError(f"data.path={path}: {' '.join(str(error).split())}") from error
    return [Row(place=f"{path}[{split}], row {number}", values=dict(row)) for number, row in enumerate(loaded, 1)]
