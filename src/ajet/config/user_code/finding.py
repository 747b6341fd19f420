"""Where code that users name is, and whether it defines what they name: found as Python would, without running it.

In: an entry, which has a form of `FORMS`. Out: files, or one sentence.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from ajet.config.user_code.running import running_user_code
from ajet.errors import ConfigError

FORMS = "package.module:name, package.module->name, package.module.name or path/file.py->name"


def split_entry(entry: str) -> tuple[str, str]:
    """(module or file, name in it); one of them is empty where the entry has none of the forms.

    Example: `pkg.engines.Mine` and `pkg.engines:Mine` are both `("pkg.engines", "Mine")`.
    """
    if "->" not in entry and ":" not in entry and not entry.endswith(".py"):
        place, _, name = entry.rpartition(".")
    else:
        place, _, name = entry.partition("->" if "->" in entry else ":")
    return place, name


def require_place(entry: str, *, setting: str, choices: Sequence[str] = ()) -> Path | None:
    """The file that an entry names; None where its module was made without one, as `__main__` of a notebook.

    Args:
        entry: as the user wrote it.
        setting: that it stands in.
        choices: short names that the setting may have instead.

    Raises:
        ConfigError: another form, or no such file or module.
    """
    place, name = split_entry(entry)
    if not place or not name:
        given = ", ".join([*choices, FORMS])
        raise ConfigError(f"{setting}={entry} names nothing that can be loaded: give {given}")
    files = files_of(entry)
    if not files and place in sys.modules:
        return None
    if not files:
        kind = "file" if place.endswith(".py") else "module"
        raise ConfigError(f"{setting}={entry}: there is no {kind} {place}")
    return files[-1]


def no_such_name(setting: str, name: str, names: Sequence[str]) -> ConfigError:
    """The error of a module that does not have what an entry names.

    Args:
        setting: with its value.
        name: that the module lacks.
        names: those that it has.
    """
    public = [known for known in names if not known.startswith("_")]
    return ConfigError(f"{setting}: there is no {name!r}; there is {', '.join(public) or 'nothing'}")


def check_entry(entry: str, *, setting: str, choices: Sequence[str] = ()) -> None:
    """Refuse an entry that names nothing.

    Args:
        entry: as the user wrote it.
        setting: that it stands in.
        choices: short names that the setting may have instead.

    Raises:
        ConfigError: another form, no such file or module, one that is not Python, or none of that name in it.
    """
    file = require_place(entry, setting=setting, choices=choices)
    if file is None or file.suffix != ".py":
        return  # only running it would tell
    with running_user_code(f"{setting}={entry}"):
        names = list(_names_in(ast.parse(file.read_bytes(), filename=str(file))))
    _, name = split_entry(entry)
    if name not in names and "*" not in names and "__getattr__" not in names:
        raise no_such_name(f"{setting}={entry}", name, names)


def _names_in(module: ast.Module) -> Iterator[str]:
    """What a module defines or imports outside functions and classes; `*` where it imports all of another."""
    left: list[ast.AST] = list(reversed(module.body))
    while left:
        node = left.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        else:
            left += reversed(list(ast.iter_child_nodes(node)))


def files_of(entry: str) -> list[Path]:
    """The file that an entry names, behind those of the packages that are run on the way to it; or nothing."""
    place, _ = split_entry(entry)
    if not place:
        return []
    if place.endswith(".py"):
        return [Path(place).resolve()] if Path(place).is_file() else []
    files: list[Path] = []
    search: list[str] | None = None
    parts = place.split(".")
    for depth in range(1, len(parts) + 1):
        spec = _find(".".join(parts[:depth]), search)
        if spec is None:
            return []
        if spec.origin is not None and Path(spec.origin).is_file():
            files.append(Path(spec.origin).resolve())
        search = None if spec.submodule_search_locations is None else list(spec.submodule_search_locations)
        if search is None and depth < len(parts):
            return []
    return files


def _find(name: str, search: list[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        spec = finder.find_spec(name, search)
        if spec is not None:
            return spec
    return PathFinder.find_spec(name, [os.getcwd()]) if search is None else None
