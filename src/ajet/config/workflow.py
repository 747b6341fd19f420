"""Which agent program is played, and what must be known of it before it is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from ajet.config.fields import ruled

BUILTIN_WORKFLOWS = ("countdown", "debate", "frozenlake", "guess_number", "math", "signals", "werewolves")


@dataclass
class WorkflowConfig:
    """The workflow group. Empty or null facts are found out when the workflow is loaded."""

    entry: str = MISSING
    """A built-in name, `package.module:Class`, `package.module->Class` or `path/file.py->Class`."""
    params: dict[str, Any] = field(default_factory=dict)
    """The workflow's own fields (pydantic), by name."""
    env: str | None = None
    """A function of the task, as `package.module:name` or `path/file.py->name`: what it returns or awaits is the
    episode's `workflow_task.gym_env`, and is closed after it if it has a `close`. Null: there is none."""
    target_tags: list[str] = field(default_factory=list)
    """Every tag that the workflow uses; empty if unknown until it is loaded."""
    hostile: list[list[str]] = field(default_factory=list)
    """Sides whose tags must not be trained together, e.g. [[werewolf], [seer, witch]]."""
    has_own_models: bool = True
    """Whether the workflow brings a `debug_model` for agents that are not trained."""
    scripted: bool = False
    """Whether the workflow offers scripted players."""
    num_train_tasks: int | None = ruled(None, at_least=1)
    """Training tasks before they repeat; null: as many as the run asks for."""
