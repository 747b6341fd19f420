"""ajet: train the language model behind chosen roles of a multi-agent program.

    run = ajet.train(MyWorkflow, "trainable_targets=[solver]", total_steps=20)
    ajet.evaluate(run, opponent="random")

The commands, which are packages that can be called, and the names that a user touches are exported here, and
loaded only when asked for, so that `import ajet` and `--help` stay fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ajet import errors as errors
    from ajet.errors import PolicyError as PolicyError
    from ajet.evaluate import HeldOutPlay as _HeldOutPlay
    from ajet.records import Task as Task
    from ajet.rollout import Rollout as _Rollout
    from ajet.train import Training as _Training
    from ajet.tuner import AjetTuner as AjetTuner
    from ajet.tuner import OpenAIAddress as OpenAIAddress
    from ajet.workflow import Workflow as Workflow
    from ajet.workflow import WorkflowOutput as WorkflowOutput
    from ajet.workflow import WorkflowTask as WorkflowTask

    train: _Training
    rollout: _Rollout
    evaluate: _HeldOutPlay

__version__ = "0.1.0"

# AgentJet's workflows import `ajet.schema.task` and the like; those modules live together in one folder.
__path__.append(str(Path(__file__).parent / "rollout" / "agents" / "agentjet"))

_EXPORTS = {
    "AjetTuner": "ajet.tuner",
    "OpenAIAddress": "ajet.tuner",
    "PolicyError": "ajet.errors",
    "Task": "ajet.records",
    "Workflow": "ajet.workflow",
    "WorkflowOutput": "ajet.workflow",
    "WorkflowTask": "ajet.workflow",
}
_MODULES = ("train", "rollout", "evaluate", "errors")
"""The commands, which can be called, and what they raise."""
__all__ = [
    "AjetTuner",
    "OpenAIAddress",
    "PolicyError",
    "Task",
    "Workflow",
    "WorkflowOutput",
    "WorkflowTask",
    "errors",
    "evaluate",
    "rollout",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import an exported name on first use (PEP 562)."""
    from importlib import import_module

    if name in _MODULES:
        return import_module(f"ajet.{name}")
    if name not in _EXPORTS:
        raise AttributeError(f"module 'ajet' has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)
