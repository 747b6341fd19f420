"""`from ajet.task_judge.base_judge import BaseJudge`, as AgentJet has it."""

from ajet.rollout.judges.base import BaseJudge

__all__ = ["BaseJudge"]
