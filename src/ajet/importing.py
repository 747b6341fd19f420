"""`package.module:name`, `package.module->name` or `path/file.py->name` -> the object of that name."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from ajet.errors import ConfigError

FORMS = "package.module:name, package.module->name or path/file.py->name"


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
        ConfigError: another form, or no such module or file.
    """
    place, found, name = entry.partition("->" if "->" in entry else ":")
    if not found or not place or not name:
        raise ConfigError(f"{setting}={entry} names nothing that can be loaded: give {FORMS}")
    module = _import_file(Path(place), setting) if place.endswith(".py") else _import_module(place, setting)
    return module, name


def _import_module(name: str, setting: str) -> ModuleType:
    try:
        found = importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
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
    spec.loader.exec_module(module)
    return module
