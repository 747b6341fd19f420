"""`package.module:name`, `package.module->name`, `package.module.name` or `path/file.py->name` -> that object.

Code of authors runs here for the first time. What it raises becomes one sentence that names the author's line.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from ajet.config.authors.lines import one_line
from ajet.errors import AjetError, ConfigError, is_users

FORMS = "package.module:name, package.module->name or path/file.py->name"


@contextmanager
def authors_code(setting: str) -> Iterator[None]:
    """Around code of an author's that runs before any episode does.

    Args:
        setting: the setting that named it, with its value, for errors.

    Raises:
        ConfigError: the code raised, were it `SystemExit`; the message names the author's line.
    """
    try:
        yield
    except AjetError:
        raise
    except BaseException as error:  # the boundary to code that users write
        if is_users(error):
            raise
        raise ConfigError(f"{setting}: {one_line(error)}") from error


def load_object(entry: str, *, setting: str) -> Any:
    """Import what `entry` names.

    Args:
        entry: one of the three forms.
        setting: the setting that it stands in, for errors.

    Raises:
        ConfigError: nothing of that name.
    """
    module, name = load_module(entry, setting=setting)
    if name not in vars(module):
        names = [known for known, value in vars(module).items() if callable(value) and not known.startswith("_")]
        raise ConfigError(f"{setting}={entry}: there is no {name!r}; there is {', '.join(names) or 'nothing to call'}")
    return vars(module)[name]


def load_module(entry: str, *, setting: str) -> tuple[ModuleType, str]:
    """The module that `entry` names, and the name that is to be looked up in it.

    Raises:
        ConfigError: another form, no such module or file, or one that cannot be imported.
    """
    place, name = split_entry(entry)
    if not place or not name:
        raise ConfigError(f"{setting}={entry} names nothing that can be loaded: give {FORMS}")
    with authors_code(f"{setting}={entry}"):
        module = _import_file(Path(place), setting) if place.endswith(".py") else _import_module(place, setting)
    return module, name


def split_entry(entry: str) -> tuple[str, str]:
    """(module or file, name in it); one of them is empty where the entry has none of the forms.

    Example: `pkg.engines.Mine` and `pkg.engines:Mine` are both `("pkg.engines", "Mine")`.
    """
    if "->" not in entry and ":" not in entry and not entry.endswith(".py"):
        place, _, name = entry.rpartition(".")
    else:
        place, _, name = entry.partition("->" if "->" in entry else ":")
    return place, name


def _import_module(name: str, setting: str) -> ModuleType:
    # `python -m` looks for modules where it is started; installed commands would not.
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found = importlib.util.find_spec(name) is not None
    except ModuleNotFoundError as error:
        if error.name is None or not name.startswith(error.name):
            raise  # one that the module's package asks for
        found = False
    if not found:
        raise ConfigError(f"{setting}: there is no module {name}; is it installed, and spelled so?")
    return importlib.import_module(name)


def _import_file(path: Path, setting: str) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"{setting}: there is no file {path}.")
    name = f"ajet_user_{path.stem}"
    known = sys.modules.get(name)
    if known is not None and known.__file__ == str(path.resolve()):
        return known  # a workflow, a judge and tasks in one file are one module
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Registered before it runs: dataclasses and pydantic look a class's module up by name.
    sys.modules[name] = module
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]  # half of a module is none
        raise
    return module
