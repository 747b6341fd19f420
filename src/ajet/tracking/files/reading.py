"""JSON and YAML that any process may have written -> plain values of the kind that was asked for, or one sentence.

Nothing that a file says is carried out: no tags of YAML's, no interpolations, no aliases, which a few lines of could
fill the memory.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ajet.errors import RunDirectoryError
from ajet.tracking.files.legible import escape_control_characters

T = TypeVar("T")
LARGEST = 64 * 2**20
"""Bytes of a configuration or a record; an evaluation of 100,000 tasks has 10 MB, a real configuration 4 KB."""


class _SafeYamlLoader(yaml.SafeLoader):
    """Reads YAML without aliases, with which a small file can grow into one that fills the memory."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it holds an alias (*), which nothing of ajet's writes")
        return super().compose_node(parent, index)


def read_json(path: Path, kind: type[T]) -> T:
    """The content of a JSON file, which is a `kind` (dict or list).

    Raises:
        RunDirectoryError: it cannot be read, or holds something else.
    """
    text = read_text(path)
    try:
        return _of_kind(path, json.loads(text), kind)
    except (ValueError, RecursionError) as error:
        raise damaged(path, error) from error


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; errors as `read_json`."""
    return _of_kind(path, _parsed(path), dict)


def read_yaml_list(path: Path) -> list[Any]:
    """The list in a YAML file, which may be empty; errors as `read_json`."""
    return _of_kind(path, _parsed(path) or [], list)


def _parsed(path: Path) -> Any:
    text = read_text(path)
    try:
        return yaml.load(text, Loader=_SafeYamlLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise damaged(path, error) from error


def read_text(path: Path) -> str:
    """A file's text, which is UTF-8 and not larger than `LARGEST`.

    Raises:
        RunDirectoryError: it is not, or cannot be read.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise RunDirectoryError(f"{path} is not read: {size / 2**20:.0f} MiB, where a run's has a few KiB")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise RunDirectoryError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise damaged(path, error) from error


def damaged(path: Path, why: object) -> RunDirectoryError:
    """The sentence on a file whose content is not what it should be."""
    words = " ".join(str(why).split()) or type(why).__name__
    return RunDirectoryError(f"{path} is damaged: {words[:200]}")


def _of_kind(path: Path, content: Any, kind: type[T]) -> T:
    if not isinstance(content, kind):
        raise damaged(path, f"it holds {type(content).__name__}, not {kind.__name__}")
    return content


def read_metric_lines(path: Path) -> list[dict[str, float]]:
    """The lines of a `metrics.jsonl`, in order; none where there is no file, and none that is still being written.

    Raises:
        RunDirectoryError: a line is not a step's metrics; names the line.
    """
    lines: list[dict[str, float]] = []
    if not path.is_file():
        return lines
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.endswith(b"\n"):
                    lines.append(_metric_line(path, number, line))
    except OSError as error:
        raise RunDirectoryError(f"{path} cannot be read: {error.strerror or error}") from error
    return lines


def _metric_line(path: Path, number: int, text: bytes) -> dict[str, float]:
    try:
        line: dict[str, float] = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"line {number} is not JSON ({error})") from error
    # A boolean is a number to Python, and to nobody else.
    is_step = isinstance(line, dict) and isinstance(line.get("step"), int) and line["step"] >= 0
    if not is_step or any(isinstance(value, bool) or not _is_number(value) for value in line.values()):
        raise damaged(path, f"line {number} is not a step and its numbers")
    # Earlier versions wrote names as users gave them, which a table need not take.
    return {escape_control_characters(name): value for name, value in line.items()}


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, int | float)
