"""`workflow.entry` -> a `Workflow` subclass.

The one place where a user's file is imported; agentscope's missing names are put in place before. Built-in workflows
load without agentscope, torch or an engine.
"""

from __future__ import annotations

import inspect

from ajet.config.authors.importing import FORMS, load_module
from ajet.errors import ConfigError, require_extra
from ajet.rollout.agents.agentscope_names import alias_mcp_names
from ajet.workflow import Workflow

BUILTIN = {
    "countdown": "ajet.workflows.countdown.workflow:Countdown",
    "debate": "ajet.workflows.debate.workflow:Debate",
    "frozenlake": "ajet.workflows.frozenlake.workflow:FrozenLake",
    "guess_number": "ajet.workflows.guess_number.workflow:GuessNumber",
    "math": "ajet.workflows.math.workflow:Math",
    "signals": "ajet.workflows.signals.workflow:Signals",
    "werewolves": "ajet.workflows.werewolves.workflow:Werewolves",
}


def load_workflow(entry: str) -> type[Workflow]:
    """Import the class that `entry` names.

    Args:
        entry: a built-in name, `package.module:Class`, `package.module->Class` or `path/file.py->Class`.

    Raises:
        ConfigError: nothing of that name, or it is not a `Workflow` that can be played.
    """
    if entry not in BUILTIN:
        alias_mcp_names()
        if "->" not in entry and ":" not in entry:
            raise ConfigError(f"workflow.entry={entry} names no workflow: give {', '.join(BUILTIN)}, {FORMS}.")
    else:
        require_extra("agentscope", needed_by=f"workflow={entry}")  # whose models all of them ask
    module, class_name = load_module(BUILTIN.get(entry, entry), setting="workflow.entry")
    loaded = vars(module).get(class_name)
    if not (isinstance(loaded, type) and issubclass(loaded, Workflow)):
        names = [
            n for n, v in vars(module).items() if isinstance(v, type) and issubclass(v, Workflow) and v is not Workflow
        ]
        known = ", ".join(names) or "none"
        raise ConfigError(f"workflow.entry={entry}: there is no Workflow called {class_name!r}; there is {known}.")
    _check_playable(loaded, entry)
    return loaded


def _check_playable(workflow: type[Workflow], entry: str) -> None:
    if inspect.isabstract(workflow):
        missing = ", ".join(sorted(workflow.__abstractmethods__))
        raise ConfigError(f"workflow.entry={entry}: {workflow.__name__} is abstract, it has no {missing} of its own")
    if inspect.isasyncgenfunction(workflow.execute) or inspect.isgeneratorfunction(workflow.execute):
        raise ConfigError(
            f"workflow.entry={entry}: execute of {workflow.__name__} is a generator, for it has a yield: "
            "return one WorkflowOutput"
        )
