"""`package.module:name`, `package.module->name`, `package.module.name` or `path/file.py->name` -> that object.

Code of users runs here for the first time, and again where its file was edited since, as notebooks do between two
runs: what runs is what the file says now. What it raises becomes one sentence that names the user's line.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from ajet.config.user_code.cells import is_kept
from ajet.config.user_code.finding import no_such_name, require_place, split_entry
from ajet.config.user_code.helpers import helper_files
from ajet.config.user_code.running import running_user_code
from ajet.errors import ConfigError

_LAST_RUN: dict[str, str] = {}
"""Module that was imported by its name -> SHA-256 of its file and its helpers' then."""
_HELPERS: dict[Path, str] = {}
"""User's file that an entry's file imports -> SHA-256 of what it said when the entry last ran."""


def load_object(entry: str, *, setting: str) -> Any:
    """Import what `entry` names.

    Args:
        entry: of a form of `FORMS`.
        setting: the setting that it stands in, for errors.

    Raises:
        ConfigError: nothing of that name.
    """
    module, name = load_module(entry, setting=setting)
    if name not in vars(module):
        raise no_such_name(f"{setting}={entry}", name, _callables(module))
    return vars(module)[name]


def load_callable(entry: str, *, setting: str) -> Callable[..., Any]:
    """Import the function or class that `entry` names; arguments as `load_object`.

    Raises:
        ConfigError: nothing of that name, or something that cannot be called.
    """
    found = load_object(entry, setting=setting)
    if not callable(found):
        module, _ = load_module(entry, setting=setting)
        choices = ", ".join(_callables(module)) or "none"
        raise ConfigError(f"{setting}={entry} is neither a function nor a class; of these there is {choices}")
    return cast(Callable[..., Any], found)


def _callables(module: ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]


def load_module(entry: str, *, setting: str, choices: Sequence[str] = ()) -> tuple[ModuleType, str]:
    """The module that `entry` names, and the name that is to be looked up in it; arguments as `check_entry`.

    Raises:
        ConfigError: another form, no such module or file, or one that cannot be imported.
    """
    require_place(entry, setting=setting, choices=choices)
    place, name = split_entry(entry)
    with running_user_code(f"{setting}={entry}"):
        module = _import_file(Path(place)) if place.endswith(".py") else _import_module(place)
    return module, name


def _import_module(name: str) -> ModuleType:
    # `python -m` looks for modules where it is started; installed commands would not.
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    module = importlib.import_module(name)
    spec = module.__spec__
    if spec is not None and spec.origin is not None and spec.origin.endswith(".py"):
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


def _import_file(path: Path) -> ModuleType:
    """The file's module, one for each content of it and of its helpers: a workflow, a judge and tasks in one file share
    it, while an edited file and a namesake in another folder have modules of their own."""
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
    except BaseException as error:
        del sys.modules[name]  # half of a module is none
        if isinstance(error, ModuleNotFoundError) and is_kept(content):
            raise ConfigError(
                f"{path} was written in a notebook and imports {error.name}, which is not found from here: start in "
                "the notebook's folder, or name the folder that holds it in PYTHONPATH"
            ) from error
        raise
    return module


def _run(module: ModuleType, content: bytes, file: str) -> None:
    # Compiled anew: Python takes a stale compiled file where the edited one has its size and is of the same second.
    exec(compile(content, file, "exec", dont_inherit=True), vars(module))
