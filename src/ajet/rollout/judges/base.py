"""What a judge is, how one is asked, and what the judges' configurations share.

A judge is a subclass of `JudgeConfig` with its settings, and the `BaseJudge` that it builds beside it. A workflow whose
output has reward None is scored by it.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, SupportsFloat

from typing_extensions import override

from ajet.config.component import construct
from ajet.config.fields import named, needed, ruled
from ajet.errors import ConfigError, WorkflowError
from ajet.records import Task

if TYPE_CHECKING:
    from ajet.workflow import WorkflowOutput, WorkflowTask


@dataclass
class JudgeConfig:
    """The judge group. The chosen judge's subclass has its own settings."""

    name: str = needed()
    """The judge's name, e.g. `exact_match`: what `judge=` chooses."""

    needs_reference: ClassVar[bool] = False
    """Whether each task must have a right answer of its own."""
    needs_extras: ClassVar[tuple[str, ...]] = ()
    """Extras of the installation, of which it needs one (`ajet.errors.EXTRAS`)."""
    component: ClassVar[Any] = None
    """The judge's class where a user wrote it (docs/extend/judge.md)."""

    def build(self, *, run_config: object, run_dir: Path) -> BaseJudge | None:
        """The judge; None where the workflow has to say its rewards itself.

        Args:
            run_config: the whole run's configuration by attributes, for judges that users write.
            run_dir: where a judge may keep what it was told.

        Raises:
            ConfigError: what to change.
        """
        judge: BaseJudge = construct(self, f"judge={self.name}", run_config=run_config, run_dir=run_dir)
        return judge

    def check(self, *, episode_timeout_s: float) -> None:
        """Refuse settings that cannot work.

        Args:
            episode_timeout_s: `rollout.timeout_s`, within which the judge has to answer, too.

        Raises:
            ConfigError: what to change.
        """

    def check_task(self, task: Task, place: str) -> None:
        """Refuse a task that could not be scored; `place` says where it stands.

        Raises:
            ConfigError: what it lacks.
        """


@dataclass
class NoJudgeConfig(JudgeConfig):
    """Rewards come from the workflow alone."""

    name: str = named("none")

    @override
    def build(self, *, run_config: object, run_dir: Path) -> None:
        return None


@dataclass
class AnswerConfig(JudgeConfig):
    """What judges share that look at an answer."""

    given: str = "final_answer"
    """Key of the answer in the output's metadata."""
    reference: str = "answer"
    """Key of the right answer in the task's metadata; `llm` does without where a task has none."""


@dataclass
class ScoreConfig(AnswerConfig):
    """What judges share that give a score on a scale."""

    max_score: float = ruled(10.0, above=0)
    """The best score; the reward is score / max_score."""
    success_score: float = ruled(10.0, above=0)
    """From this score on an episode is a success."""

    @override
    def check(self, *, episode_timeout_s: float) -> None:
        if self.success_score > self.max_score:
            raise ConfigError(f"judge.success_score={self.success_score:g} is above judge.max_score={self.max_score:g}")


class BaseJudge:
    """Scores outputs. Subclass it, or write any class or function that answers alike."""

    def __init__(self, config: Any) -> None:
        """`config`: the judge's own; for one that `judge.entry` names the whole run's, by attributes."""
        self.config = config

    def compute_reward(self, workflow_task: WorkflowTask, workflow_output: WorkflowOutput) -> Any:
        """(reward, is_success), or an awaitable of it; the reward as in `WorkflowOutput`.

        Raises:
            Exception: an infrastructure failure: the episode is retried, then dropped, and never scored zero.
        """
        raise NotImplementedError


async def apply_judge(judge: BaseJudge, workflow_task: WorkflowTask, output: WorkflowOutput) -> WorkflowOutput:
    """The output with the judge's reward, and its word on success where the workflow had none.

    Raises:
        WorkflowError: the judge's answer is not a (reward, is_success).
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
