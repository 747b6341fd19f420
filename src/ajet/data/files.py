"""`data=jsonl|json|csv|parquet`: files on this machine -> rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import override

from ajet.config.fields import BUILTIN_PREFIX, named, place
from ajet.data.listed import PathConfig
from ajet.data.rows import TaskRow
from ajet.errors import ConfigError

_WORKFLOWS = Path(__file__).resolve().parent.parent / "workflows"


@dataclass
class FileConfig(PathConfig):
    """What readers of files share."""

    path: str = place(needed="the file of training tasks")
    """The training tasks: a file, or `builtin:<workflow>/<file>` for one that ships with a workflow."""

    @override
    def rows(self, path: str, *, held_out: bool, setting: str) -> list[TaskRow]:
        file = Path(resolve_data_path(path))
        if not file.is_file():
            raise ConfigError(f"{setting}: there is no file {file}")
        try:
            return [TaskRow(place=f"{file.name}, {where}", values=values) for where, values in self.parse(file)]
        except UnicodeDecodeError as error:
            raise ConfigError(f"{file.name}: not UTF-8 at byte {error.start}: save the file as UTF-8") from error

    def parse(self, file: Path) -> Iterable[tuple[str, Any]]:
        """(place in the file, what stands there), in the file's order.

        Raises:
            ConfigError: the file is not of the format.
        """
        raise NotImplementedError

    @override
    def check(self, *, num_train_tasks: int | None) -> None:
        super().check(num_train_tasks=num_train_tasks)
        for name, path in (("path", self.path), ("held_out_path", self.held_out_path)):
            if path is not None and not Path(resolve_data_path(path)).is_file():
                raise ConfigError(f"data.{name}: there is no file {path}")


@dataclass
class JsonlConfig(FileConfig):
    """A JSON object a line."""

    reader: str = named("jsonl")

    @override
    def parse(self, file: Path) -> Iterable[tuple[str, Any]]:
        # Not splitlines: JSON may hold the other characters that it takes for ends of lines.
        for number, line in enumerate(file.read_text(encoding="utf-8-sig").split("\n"), 1):
            if line.strip():
                yield f"line {number}", _parsed(line, f"{file.name}, line {number}")


@dataclass
class JsonConfig(FileConfig):
    """A JSON list of objects."""

    reader: str = named("json")

    @override
    def parse(self, file: Path) -> Iterable[tuple[str, Any]]:
        loaded = _parsed(file.read_text(encoding="utf-8-sig"), file.name)
        if not isinstance(loaded, list):
            raise ConfigError(f"{file.name}: a JSON file of tasks is a list of objects, not {type(loaded).__name__}")
        return ((f"item {number}", values) for number, values in enumerate(loaded, 1))


@dataclass
class CsvConfig(FileConfig):
    """Cells as they are written: `007` and `1.50` stay texts. Columns of whole numbers become numbers."""

    reader: str = named("csv")

    @override
    def parse(self, file: Path) -> Iterable[tuple[str, Any]]:
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


@dataclass
class ParquetConfig(FileConfig):
    """Rows of a parquet file."""

    reader: str = named("parquet")

    @override
    def parse(self, file: Path) -> Iterable[tuple[str, Any]]:
        from pyarrow import ArrowInvalid, parquet

        try:
            return _numbered(parquet.read_table(file).to_pylist())
        except ArrowInvalid as error:
            raise ConfigError(f"{file.name}: not parquet: {' '.join(str(error).split())}") from error


def resolve_data_path(path: str) -> str:
    """`data.path` as readers take it: `builtin:math/train.jsonl` is a file in that workflow's folder, wherever ajet is
    installed; any other path is left as it is."""
    is_builtin = path.startswith(BUILTIN_PREFIX)
    return str(_WORKFLOWS / path.removeprefix(BUILTIN_PREFIX)) if is_builtin else path


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{place}: not JSON: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{place}: it nests too deep or holds too long a number") from error


def _numbers(cells: Sequence[str]) -> Sequence[str] | Sequence[int]:
    """The column as whole numbers, if writing them again gives the same column."""
    try:
        numbers = [int(cell) for cell in cells]
    except ValueError:
        return cells
    return numbers if [str(number) for number in numbers] == list(cells) else cells


def _numbered(rows: Iterable[Any]) -> Iterable[tuple[str, Any]]:
    return ((f"row {number}", values) for number, values in enumerate(rows, 1))
