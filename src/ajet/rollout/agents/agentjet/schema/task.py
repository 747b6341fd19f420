"""`from ajet.schema.task import Task, WorkflowOutput, WorkflowTask`, as AgentJet has it."""

from ajet.records import Task
from ajet.workflow import WorkflowOutput, WorkflowTask

__all__ = ["Task", "WorkflowOutput", "WorkflowTask"]
