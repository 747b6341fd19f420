"""What a workflow author writes: a `Workflow` subclass whose `execute` plays one episode.

In: a `WorkflowTask` and the episode's `AjetTuner`, which hands out models for agents.
Out: a `WorkflowOutput`. No base class beyond pydantic's, no registration.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ajet.records import Task

if TYPE_CHECKING:
    import random

    from ajet.chat.types import ChatModel
    from ajet.tuner import AjetTuner


class WorkflowTask(BaseModel):
    """What `execute` is given: the task, and an environment where the task names one."""

    model_config = ConfigDict(arbitrary_types_allowed=True, frozen=True)

    task: Task
    repeat: int = 0
    """Which of the group's episodes this is, from 0. Seed the game by the task, not by this."""
    gym_env: Any = None
    """The episode's environment, where `workflow.env` names what makes it."""
    episode_uuid: str = ""
    """32 hexadecimal digits that no other attempt at any episode of this run has, e.g. to name an instance on a server
    of environments; the same again where the run is repeated in its directory."""

    @property
    def task_id(self) -> str:
        """The task's."""
        return self.task.task_id

    @property
    def env_type(self) -> str:
        """The task's."""
        return self.task.env_type


class WorkflowOutput(BaseModel):
    """What `execute` returns."""

    model_config = ConfigDict(extra="forbid")

    reward: float | dict[str, float] | None = None
    """One number for every trained agent, or one by target_tag or by agent name; None asks the judge."""
    is_success: bool | None = None
    """Whether the trained side reached its goal; logged as `episode/success_rate`."""
    metadata: dict[str, Any] = Field(default_factory=dict)
    """Kept with the episode."""
    log_metrics: dict[str, float] = Field(default_factory=dict)
    """Logged as `workflow/<name>`, averaged over episodes; a list stands for its mean, an empty one for nothing."""

    @field_validator("log_metrics", mode="before")
    @classmethod
    def _means(cls, metrics: Any) -> Any:
        if not isinstance(metrics, Mapping):
            return metrics
        known = {name: value for name, value in metrics.items() if not isinstance(value, list | tuple) or value}
        return {name: fmean(value) if isinstance(value, list | tuple) else value for name, value in known.items()}


class Workflow(BaseModel):
    """Base class of a workflow. Fields are its parameters: `workflow.params` in the config sets them."""

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)

    name: str = "workflow"
    """For the author's own use."""
    trainable_targets: list[str] | None = None
    """Tags to train; None trains every agent. The config's `trainable_targets` wins."""

    target_tags: ClassVar[tuple[str, ...]] = ()
    """Every tag the workflow uses, for early errors; empty where it cannot say."""

    @abstractmethod
    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """Play one episode.

        Raises:
            PolicyError: the policy's own fault; scored with `rollout.policy_error_reward`.
            Exception: anything else is an infrastructure failure, retried and then dropped.
        """
        raise NotImplementedError

    @classmethod
    def scripted_player(
        cls, *, agent_name: str, target_tag: str, rng: random.Random, params: Mapping[str, float]
    ) -> ChatModel | None:
        """The player behind `opponent=scripted`: it sees the agent's requests and nothing else.

        None (the default) says that the workflow has no scripted players.
        `rng` is this agent's own in this episode; `params` come from `opponent.params`.
        """
        return None
