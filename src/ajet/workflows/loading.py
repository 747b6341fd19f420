"""`workflow.entry` -> a `Workflow` subclass.

The one place where a user's file is imported; agentscope's missing names are put in place before. Built-in workflows
load without agentscope, torch or an engine.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from ajet.agents.agentscope_names import alias_mcp_names
from ajet.errors import ConfigError
from ajet.workflow import Workflow

BUILTIN = {
    "signals": "ajet.workflows.signals.workflow:Signals",
    "werewolves": "ajet.workflows.werewolves.workflow:Werewolves",
}


def load_workflow(entry: str) -> type[Workflow]:
    """Import the class that `entry` names.

    Args:
        entry: a built-in name, `package.module:Class`, `package.module->Class` or `path/file.py->Class`.

    Raises:
        ConfigError: nothing of that name, or it is not a `Workflow`.
    """
    target = BUILTIN.get(entry, entry)
    separator = "->" if "->" in target else ":"
    place, found, class_name = target.partition(separator)
    if not found:
        raise ConfigError(
            f"workflow.entry={entry} names no workflow: give {', '.join(BUILTIN)}, package.module:Class, "
            "package.module->Class or path/file.py->Class."
        )
    if entry not in BUILTIN:
        alias_mcp_names()
    module = _import_file(Path(place)) if place.endswith(".py") else _import_module(place)
    loaded = vars(module).get(class_name)
    if not (isinstance(loaded, type) and issubclass(loaded, Workflow)):
        names = [
            n for n, v in vars(module).items() if isinstance(v, type) and issubclass(v, Workflow) and v is not Workflow
        ]
        raise ConfigError(
            f"workflow.entry={entry}: {place} has no Workflow called {class_name!r}; "
            f"it has {', '.join(names) or 'none'}."
        )
    return loaded


def _import_module(name: str) -> ModuleType:
    try:
        found = importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        raise ConfigError(f"workflow.entry: there is no module {name}; is it installed, and spelled so?")
    return importlib.import_module(name)


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"workflow.entry: there is no file {path}.")
    name = f"ajet_user_workflow_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Registered before it runs: dataclasses and pydantic look a class's module up by name.
    sys.modules[name] = module
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec.loader.exec_module(module)
    return module
