"""One episode: build its tuner, run the workflow, turn whatever happens into an `Episode`.

In: a task and a repeat. Out: an episode with a status, never an exception, save for errors that no retry can
mend (`ConfigError`) and cancellation from outside.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ajet.chat.types import ChatModel
from ajet.errors import ConfigError, PolicyError, WorkflowError
from ajet.recording import EpisodeRecorder
from ajet.records import Episode, EpisodeStatus, Task
from ajet.rollout.cast import EpisodeCast, Voices
from ajet.tuner import AjetTuner
from ajet.workflow import Workflow, WorkflowOutput, WorkflowTask

if TYPE_CHECKING:
    from ajet.config.root import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeRunner:
    """Plays single episodes of one workflow."""

    config: Config
    make_workflow: Callable[[], Workflow]
    """A fresh workflow object an episode, so that none can leave traces in another."""
    voices: Voices
    agentscope_adapter: Callable[[ChatModel, str], Any]
    timeout_s: float
    policy_error_reward: float

    async def run(self, task: Task, *, repeat: int, stream: str, attempt: int) -> Episode:
        """Play one attempt.

        Args:
            task: what to play.
            repeat: which episode of the group.
            stream: names the randomness (`eval`, `train/<step>`), so that evaluation never disturbs training and a
                task that comes again is played anew.
            attempt: from 0; a retry draws afresh.

        Raises:
            ConfigError: the settings cannot work; retrying would not help.
        """
        recorder = EpisodeRecorder()
        cast = EpisodeCast(
            voices=self.voices, recorder=recorder, key=(self.config.seed, stream, task.task_id, repeat, attempt)
        )
        workflow = self.make_workflow()
        tuner = AjetTuner(
            config=self.config,
            trainable_targets=workflow.trainable_targets,
            cast=cast,
            agentscope_adapter=self.agentscope_adapter,
        )
        started = time.perf_counter()
        output, status, error = await self._execute(workflow, WorkflowTask(task=task, repeat=repeat), tuner)
        rewards: Mapping[str, float] = {}
        if status == "ok":
            try:
                rewards = rewards_by_agent(output.reward, cast.trained_agents)
            except WorkflowError as broken:
                status, error = "infra_error", str(broken)
        elif status == "policy_error":
            rewards = dict.fromkeys(cast.trained_agents, self.policy_error_reward)
        return Episode(
            task=task,
            repeat=repeat,
            status=status,
            rewards=rewards,
            agent_tags=dict(cast.trained_agents),
            calls=recorder.calls,
            is_success=output.is_success if status == "ok" else False if status == "policy_error" else None,
            metadata=output.metadata,
            log_metrics=output.log_metrics,
            error=error,
            num_attempts=attempt + 1,
            duration_s=time.perf_counter() - started,
            num_context_overflows=recorder.context_overflows,
        )

    async def _execute(
        self, workflow: Workflow, workflow_task: WorkflowTask, tuner: AjetTuner
    ) -> tuple[WorkflowOutput, EpisodeStatus, str | None]:
        nothing = WorkflowOutput()
        too_late: tuple[WorkflowOutput, EpisodeStatus, str]
        too_late = nothing, "timeout", f"not done after {self.timeout_s:g} s (rollout.timeout_s)"
        deadline = asyncio.timeout(self.timeout_s)
        try:
            async with deadline:
                output = await workflow.execute(workflow_task, tuner)
        except ConfigError:
            raise
        except PolicyError as error:
            return nothing, "policy_error", _one_line(error)
        except Exception as error:  # the boundary to code that users write: any failure is data
            return too_late if deadline.expired() else (nothing, "infra_error", _one_line(error))
        if deadline.expired():
            # The program swallowed the cancellation, as AgentScope's agents do: its output came too late all the same.
            return too_late
        if not isinstance(output, WorkflowOutput):
            return nothing, "infra_error", f"execute returned {type(output).__name__}, not a WorkflowOutput"
        return output, "ok", None


def rewards_by_agent(reward: float | Mapping[str, float] | None, trained_agents: Mapping[str, str]) -> dict[str, float]:
    """Every trained agent's reward.

    Args:
        reward: one number for all, or numbers by target_tag or agent name (the name wins).
        trained_agents: target_tag by agent name.

    Raises:
        WorkflowError: no reward, one that is not finite, or a trained agent without one.
    """
    if reward is None:
        raise WorkflowError("The workflow returned no reward and no judge is configured: return a number.")
    rewards: dict[str, float] = {}
    for name, tag in trained_agents.items():
        value = reward.get(name, reward.get(tag)) if isinstance(reward, Mapping) else reward
        if value is None:
            raise WorkflowError(f"The reward mapping has neither agent {name!r} nor its target_tag {tag!r}.")
        if not math.isfinite(value):
            raise WorkflowError(f"The reward of agent {name!r} is {value}: rewards must be finite.")
        rewards[name] = float(value)
    return rewards


def _one_line(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})" if trace is not None else ""
    return f"{type(error).__name__}: {error}{where}".replace("\n", " ")
