"""`package.module:name`, `package.module->name`, `package.module.name` or `path/file.py->name` -> that object.

Code of users runs here for the first time, and again where its file was edited since, as notebooks do between two
runs: what runs is what the file says now. What it raises becomes one sentence that names the user's line.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from ajet.config.user_code.cells import is_kept
from ajet.config.user_code.helpers import helper_files
from ajet.config.user_code.lines import one_line
from ajet.errors import AjetError, ConfigError, is_users

FORMS = "package.module:name, package.module->name or path/file.py->name"
_LAST_RUN: dict[str, str] = {}
"""Module that was imported by its name -> SHA-256 of its file and its helpers' then."""
_HELPERS: dict[Path, str] = {}
"""User's file that an entry's file imports -> SHA-256 of what it said when the entry last ran."""


@contextmanager
def running_user_code(setting: str) -> Iterator[None]:
    """Around code of a user's that runs before any episode does.

    Args:
        setting: the setting that named it, with its value, for errors.

    Raises:
        ConfigError: the code raised, were it `SystemExit`; the message names the user's line.
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
    with running_user_code(f"{setting}={entry}"):
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
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is None or not name.startswith(error.name):
            raise  # one that the module's package asks for
        spec = None
    if spec is None:
        raise ConfigError(f"{setting}: there is no module {name}; is it installed, and spelled so?")
    module = importlib.import_module(name)
    if spec.origin is not None and spec.origin.endswith(".py"):
        content = Path(spec.origin).read_bytes()
        digest = _digest_with_helpers(content, Path(spec.origin).resolve())
        if _LAST_RUN.setdefault(name, digest) != digest:
            _run(module, content, spec.origin)
            _LAST_RUN[name] = digest
    return module


def _digest_with_helpers(content: bytes, file: Path) -> str:
    """SHA-256 of a file and of the user's files that it imports. Where one of these has been edited since they were
    last asked for, they are forgotten as modules, so that Python imports them anew."""
    helpers = helper_files(file)
    now = {helper: sha256(helper.read_bytes()).hexdigest() for helper in helpers}
    if any(_HELPERS.get(helper, digest) != digest for helper, digest in now.items()):
        files = {str(helper) for helper in helpers}
        for name, module in list(sys.modules.items()):
            if getattr(module, "__file__", None) in files:
                del sys.modules[name]
    _HELPERS.update(now)
    return sha256(b" ".join([sha256(content).digest(), *(digest.encode() for digest in now.values())])).hexdigest()


def _import_file(path: Path, setting: str) -> ModuleType:
    """The file's module, one for each content of it and of its helpers: a workflow, a judge and tasks in one file share
    it, while an edited file and a namesake in another folder have modules of their own."""
    if not path.is_file():
        raise ConfigError(f"{setting}: there is no file {path}.")
    path = path.resolve()
    content = path.read_bytes()
    digest = sha256(content).hexdigest() if is_kept(content) else _digest_with_helpers(content, path)
    name = f"ajet_user_{path.stem}_{sha256(os.fsencode(path) + bytes(1) + digest.encode()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    # Registered before it runs: dataclasses and pydantic look a class's module up by name.
    sys.modules[name] = module
    # What a notebook's class imports lies elsewhere, and the run directory that it is kept in may be another user's.
    if str(path.parent) not in sys.path and not is_kept(content):
        sys.path.insert(0, str(path.parent))
    try:
        _run(module, content, str(path))
    except BaseException:
        del sys.modules[name]  # half of a module is none
        raise
    return module


def _run(module: ModuleType, content: bytes, file: str) -> None:
    # Compiled anew: Python takes a stale compiled file where the edited one has its size and is of the same second.
    exec(compile(content, file, "exec", dont_inherit=True), vars(module))
