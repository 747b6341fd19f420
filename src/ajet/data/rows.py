"""Files, datasets and functions -> rows: mappings that know where they came from. No row is judged here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ajet.config.authors.importing import authors_code, load_object
from ajet.errors import ConfigError, require_extra
from ajet.records import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One task to be."""

    place: str
    """Where it stands, for errors, e.g. `train.jsonl, line 3`."""
    values: Mapping[str, Any] | Task


def read_rows(
    reader: str, path: str, *, subset: str | None, split: str | None, setting: str = "data.path"
) -> list[Row]:
    """All rows, in their order.

    Args:
        reader: as in `data.reader`, `seeds` excepted.
        path: file, folder, hub id or function.
        subset: of a Hugging Face dataset.
        split: of a Hugging Face dataset.
        setting: what names the path, for errors.

    Raises:
        ConfigError: nothing there, nothing in it, or a row that is not a mapping.
    """
    if reader == "python":
        rows = _from_function(path, setting)
    elif reader == "huggingface":
        assert split is not None
        rows = _from_dataset(path, subset, split, setting)
    else:
        file = Path(path)
        if not file.is_file():
            raise ConfigError(f"{setting}: there is no file {path}")
        rows = _from_file(reader, file)
    if not rows:
        raise ConfigError(f"{setting}={path} holds no tasks")
    for row in rows:
        if not isinstance(row.values, Mapping | Task):
            raise ConfigError(f"{row.place}: a task is a mapping of fields, not {type(row.values).__name__}")
    return rows


def _from_file(reader: str, file: Path) -> list[Row]:
    try:
        return [Row(place=f"{file.name}, {place}", values=values) for place, values in FILES[reader](file)]
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file.name}: not UTF-8 at byte {error.start}: save the file as UTF-8") from error


def _jsonl(file: Path) -> Iterable[tuple[str, Any]]:
    # Not splitlines: JSON may hold the other characters that it takes for ends of lines.
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").split("\n"), 1):
        if line.strip():
            yield f"line {number}", _parsed(line, f"{file.name}, line {number}")


def _json(file: Path) -> Iterable[tuple[str, Any]]:
    loaded = _parsed(file.read_text(encoding="utf-8-sig"), file.name)
    if not isinstance(loaded, list):
        raise ConfigError(f"{file.name}: a JSON file of tasks is a list of objects, not {type(loaded).__name__}")
    return ((f"item {number}", values) for number, values in enumerate(loaded, 1))


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{place}: not JSON: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{place}: it nests too deep or holds too long a number") from error


def _csv(file: Path) -> Iterable[tuple[str, Any]]:
    """Cells as they are written: `007` and `1.50` stay texts. Columns of whole numbers become numbers."""
    from pyarrow import ArrowInvalid, csv, string

    parsing = csv.ParseOptions(newlines_in_values=True)
    try:
        with csv.open_csv(file, parse_options=parsing) as opened:
            names = opened.schema.names
        as_text = csv.ConvertOptions(column_types=dict.fromkeys(names, string()))
        columns = csv.read_csv(file, parse_options=parsing, convert_options=as_text).to_pydict()
    except ArrowInvalid as error:
        raise ConfigError(f"{file.name}: not CSV: {' '.join(str(error).split())}") from error
    if len(columns) < len(names):
        raise ConfigError(f"{file.name}: two columns have the same name; it has {', '.join(names)}")
    values = [_numbers(cells) for cells in columns.values()]
    return _numbered(dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True))


def _numbers(cells: Sequence[str]) -> Sequence[str] | Sequence[int]:
    """The column as whole numbers, if writing them again gives the same column."""
    try:
        numbers = [int(cell) for cell in cells]
    except ValueError:
        return cells
    return numbers if [str(number) for number in numbers] == list(cells) else cells


def _parquet(file: Path) -> Iterable[tuple[str, Any]]:
    from pyarrow import ArrowInvalid, parquet

    try:
        return _numbered(parquet.read_table(file).to_pylist())
    except ArrowInvalid as error:
        raise ConfigError(f"{file.name}: not parquet: {' '.join(str(error).split())}") from error


def _numbered(rows: Iterable[Any]) -> Iterable[tuple[str, Any]]:
    return ((f"row {number}", values) for number, values in enumerate(rows, 1))


FILES: Mapping[str, Callable[[Path], Iterable[tuple[str, Any]]]] = {
    "jsonl": _jsonl,
    "json": _json,
    "csv": _csv,
    "parquet": _parquet,
}


def _from_function(entry: str, setting: str) -> list[Row]:
    function = load_object(entry, setting=setting)
    with authors_code(f"{setting}={entry}"):
        made = function()
        if not isinstance(made, Iterable):
            raise ConfigError(f"{setting}={entry} yields tasks or mappings; it returned {type(made).__name__}")
        return [Row(place=f"{entry}, task {number}", values=task) for number, task in enumerate(made, 1)]


def _from_dataset(path: str, subset: str | None, split: str, setting: str) -> list[Row]:
    require_extra("datasets", needed_by="data=huggingface")
    import datasets  # takes seconds

    try:
        saved = _saved(path, subset, split)
        loaded = datasets.load_dataset(path, subset, split=split) if saved is None else saved
    except (OSError, ValueError) as error:  # among them unknown splits and configurations, which it lists
        raise ConfigError(f"{setting}={path}: {' '.join(str(error).split())}") from error
    return [Row(place=f"{path}[{split}], row {number}", values=dict(row)) for number, row in enumerate(loaded, 1)]


def _saved(path: str, subset: str | None, split: str) -> Sequence[Any] | None:
    """A dataset that `save_to_disk` wrote; None if it is none."""
    import datasets

    if not any((Path(path) / name).is_file() for name in ("dataset_dict.json", "state.json")):
        return None
    loaded = datasets.load_from_disk(path)
    splits = dict(loaded) if isinstance(loaded, datasets.DatasetDict) else {"train": loaded}
    if subset is not None:
        raise ValueError(f"it was written by save_to_disk and has no subset {subset}: set data.subset=null")
    if split not in splits:
        raise ValueError(f"there is no split {split}; there is {', '.join(splits)}")
    found: Sequence[Any] = splits[split]
    return found
