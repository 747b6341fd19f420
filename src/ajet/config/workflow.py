"""Which agent program is played, and what is known of it.

The facts are the class's own (`ajet.workflow.Workflow`); null means that it is asked, which for a program of the user's
happens when it is loaded. What is set here wins over the class.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from omegaconf import MISSING

from ajet.config.fields import COMPARED, code, marks, ruled, with_marks
from ajet.workflows import builtin_workflows


@dataclass
class WorkflowConfig:
    """Which program is played, with which parameters and facts."""

    entry: str = with_marks(code(MISSING), COMPARED)
    """A built-in name, `package.module:Class`, `package.module->Class`, `package.module.Class` or
    `path/file.py->Class`."""
    params: dict[str, Any] = field(default_factory=dict, metadata=marks(COMPARED))
    """The workflow's own fields (pydantic), by name."""
    env: str | None = with_marks(code(), COMPARED)
    """A function of the task, named by an entry as above: what it returns or awaits is the
    episode's `workflow_task.gym_env`, and is closed after it if it has a `close`. Null: there is none."""
    target_tags: list[str] | None = None
    """Every tag that the workflow uses; null: as its class says, empty if that cannot say."""
    opposing_sides: list[list[str]] | None = None
    """Sides whose tags must not be trained together, e.g. [[werewolf], [seer, witch]]; null: as its class says."""
    has_own_models: bool | None = None
    """Whether the workflow brings a `debug_model` for agents that are not trained; null: as its class says."""
    scripted: bool | None = None
    """Whether the workflow offers scripted players; null: as its class says."""
    num_train_tasks: int | None = ruled(None, at_least=1)
    """Training tasks before they repeat; null: as many as the run asks for."""


def ask_class(config: WorkflowConfig) -> WorkflowConfig:
    """The same with a built-in workflow's facts where they are null; of the user's own nothing is loaded."""
    if config.entry not in builtin_workflows():
        return config
    from ajet.workflows.loading import load_workflow  # loads pydantic, which `--help` has no use for

    workflow = load_workflow(config.entry)
    facts: dict[str, Any] = {
        "target_tags": list(workflow.target_tags),
        "opposing_sides": [list(side) for side in workflow.opposing_sides],
        "has_own_models": workflow.has_own_models,
        "scripted": workflow.has_scripted_players(),
    }
    return replace(config, **{name: fact for name, fact in facts.items() if getattr(config, name) is None})
