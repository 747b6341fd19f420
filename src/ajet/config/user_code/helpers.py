"""The user's other files that a file imports, found by reading it: they are part of the program that it is.

In: a file. Out: files, without running any. Left out: what is installed, for nobody edits it between two runs, and
imports whose names are only made when the code runs.
"""

from __future__ import annotations

import ast
import site
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from ajet.config.user_code.lines import PACKAGE

_INSTALLED = tuple(
    Path(place)
    for place in (
        *(str(sysconfig.get_path(kind)) for kind in ("stdlib", "platstdlib", "purelib", "platlib")),
        *site.getsitepackages(),
        str(PACKAGE),
    )
)


def helper_files(file: Path) -> list[Path]:
    """Files beside `file`, or in its package, that it imports, and those that these import; in an order of their own.

    Args:
        file: absolute. One that is not Python, or not legible, has none.
    """
    package = _package_root(file)
    root = package.parent if package else file.parent
    found: dict[Path, None] = {}
    left = [file]
    while left:
        one = left.pop()
        for helper in _imported(one, root):
            if helper not in found and helper != file and not _is_installed(helper):
                found[helper] = None
                left.append(helper)
    return sorted(found)


def _package_root(file: Path) -> Path | None:
    """The outermost folder around the file that is a package."""
    folder, outermost = file.parent, None
    while (folder / "__init__.py").is_file():
        folder, outermost = folder.parent, folder
    return outermost


def _imported(file: Path, root: Path) -> Iterator[Path]:
    try:
        parsed = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):  # who runs it is told
        return
    for node in ast.walk(parsed):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(root, alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            start = file.parents[node.level - 1] if node.level else root
            parts = node.module.split(".") if node.module else []
            for alias in node.names:
                yield from _files(start, [*parts, alias.name])


def _files(folder: Path, parts: list[str]) -> Iterator[Path]:
    """The files that are run for a dotted name below a folder; its last part may be no module."""
    for depth in range(1, len(parts) + 1):
        place = folder.joinpath(*parts[:depth])
        yield from (path for path in (place / "__init__.py", place.with_suffix(".py")) if path.is_file())


def _is_installed(file: Path) -> bool:
    return any(file.is_relative_to(place) for place in _INSTALLED)
