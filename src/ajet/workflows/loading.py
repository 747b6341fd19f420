"""`workflow.entry` -> a `Workflow` subclass.

The one place where a user's file is imported; agentscope's missing names are put in place before. Built-in workflows
load without agentscope, torch or an engine.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect

from ajet.config.user_code.importing import load_module
from ajet.errors import ConfigError, require_extra
from ajet.rollout.agents.agentscope_names import alias_mcp_names
from ajet.workflow import Workflow
from ajet.workflows import builtin_workflows


def load_workflow(entry: str) -> type[Workflow]:
    """Import the class that `entry` names.

    Args:
        entry: a built-in name, or of a form of `FORMS`.

    Raises:
        ConfigError: nothing of that name, or it is not a `Workflow` that can be played.
    """
    if entry in builtin_workflows():
        return _builtin(entry)
    alias_mcp_names()
    module, class_name = load_module(entry, setting="workflow.entry", choices=builtin_workflows())
    loaded = vars(module).get(class_name)
    if not (isinstance(loaded, type) and issubclass(loaded, Workflow)):
        names = [
            n for n, v in vars(module).items() if isinstance(v, type) and issubclass(v, Workflow) and v is not Workflow
        ]
        known = ", ".join(names) or "none"
        raise ConfigError(f"workflow.entry={entry}: there is no Workflow called {class_name!r}; there is {known}.")
    _check_playable(loaded, entry)
    return loaded


def _builtin(name: str) -> type[Workflow]:
    """The one workflow that a folder's `workflow.py` defines."""
    require_extra("agentscope", needed_by=f"workflow={name}")  # whose models all of them ask
    module = importlib.import_module(f"ajet.workflows.{name}.workflow")
    (found,) = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Workflow) and value.__module__ == module.__name__
    ]
    return found


def _check_playable(workflow: type[Workflow], entry: str) -> None:
    if dataclasses.is_dataclass(workflow):
        raise ConfigError(
            f"workflow.entry={entry}: {workflow.__name__} has @dataclass, but a workflow's annotated fields are "
            "pydantic's already: take the decorator away"
        )
    if inspect.isabstract(workflow):
        missing = ", ".join(sorted(workflow.__abstractmethods__))
        raise ConfigError(f"workflow.entry={entry}: {workflow.__name__} is abstract, it has no {missing} of its own")
    if inspect.isasyncgenfunction(workflow.execute) or inspect.isgeneratorfunction(workflow.execute):
        raise ConfigError(
            f"workflow.entry={entry}: execute of {workflow.__name__} is a generator, for it has a yield: "
            "return one WorkflowOutput"
        )
