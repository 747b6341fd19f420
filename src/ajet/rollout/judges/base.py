"""What a judge is, and how one is asked."""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING, Any, SupportsFloat

from ajet.errors import WorkflowError
from ajet.workflow import WorkflowOutput, WorkflowTask

if TYPE_CHECKING:
    from ajet.config.root import Config


class BaseJudge:
    """Scores outputs. Subclass it, or write any class or function that answers alike."""

    def __init__(self, config: Config) -> None:
        """`config` is the whole run's."""
        self.config = config

    def compute_reward(self, workflow_task: WorkflowTask, workflow_output: WorkflowOutput) -> Any:
        """(reward, is_success), or an awaitable of it; the reward as in `WorkflowOutput`.

        Raises:
            Exception: an infrastructure failure: the episode is retried, then dropped, and never scored zero.
        """
        raise NotImplementedError


async def judged(judge: BaseJudge, workflow_task: WorkflowTask, output: WorkflowOutput) -> WorkflowOutput:
    """The output with the judge's reward, and its word on success where the workflow had none.

    Raises:
        WorkflowError: the judge's answer is no (reward, is_success).
        BaseException: whatever the judge raised.
    """
    answer = judge.compute_reward(workflow_task, output)
    if inspect.isawaitable(answer):
        answer = await answer
    reward, is_success = answer if isinstance(answer, tuple) and len(answer) == 2 else (answer, None)
    if isinstance(reward, SupportsFloat):  # numpy's scalars and torch's, too
        reward = float(reward)
        if not math.isfinite(reward):
            raise WorkflowError(f"The judge's reward is {reward}: rewards must be finite.")
    elif not isinstance(reward, dict):
        raise WorkflowError(f"The judge's compute_reward returned {answer!r}: return (reward, is_success).")
    success = output.is_success if output.is_success is not None or is_success is None else bool(is_success)
    return output.model_copy(update={"reward": reward, "is_success": success})
