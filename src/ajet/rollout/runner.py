"""One episode: build its tuner, run the workflow, turn whatever happens into an `Episode`.

In: a task and a repeat. Out: an episode with a status, never an exception, save for errors that no retry can
mend (`ConfigError`) and cancellation from outside.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ajet.author_lines import one_line
from ajet.chat.types import ChatModel
from ajet.config.view import author_view
from ajet.endpoint.bridge import LoopBridge
from ajet.endpoint.endpoint import Endpoint
from ajet.errors import ConfigError, PolicyError, WorkflowError
from ajet.judges.base import BaseJudge, judged
from ajet.recording import EpisodeRecorder
from ajet.records import Episode, EpisodeStatus, Task
from ajet.rollout.cast import BridgedCast, EpisodeCast, Voices
from ajet.rollout.environment import EnvironmentMaker, episode_uuid, task_with_environment
from ajet.rollout.gateway import EpisodeGateway, NeedsOwnThread, ThreadUse
from ajet.rollout.own_thread import run_on_own_thread
from ajet.rollout.watch import Onlooker
from ajet.tuner import AjetTuner
from ajet.workflow import Workflow, WorkflowOutput, WorkflowTask

if TYPE_CHECKING:
    from ajet.config.root import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """How a workflow's program ended, and what its trained agents get for it."""

    status: EpisodeStatus
    output: WorkflowOutput = field(default_factory=WorkflowOutput)
    error: str | None = None
    rewards: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_success(self) -> bool | None:
        """What the workflow said; the policy's own fault is never one, and of a failure nothing is known."""
        if self.status == "ok":
            return self.output.is_success
        return False if self.status == "policy_error" else None


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
    endpoint: Endpoint = field(default_factory=Endpoint)
    """Where workflows that ask for URLs get them; starts no server before one does."""
    judge: BaseJudge | None = None
    """Who scores outputs that have no reward."""
    make_env: EnvironmentMaker | None = None
    """Makes each attempt's environment, for workflows that are given one."""
    onlooker: Onlooker | None = None
    threads: ThreadUse = field(default_factory=ThreadUse)

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
        key = (self.config.seed, stream, task.task_id, repeat, attempt)
        if not self.threads.own:
            episode = await self._attempt(task, repeat, attempt, key, on_own_thread=False)
            if episode is not None:
                return episode
            self.threads.own = True
        episode = await self._attempt(task, repeat, attempt, key, on_own_thread=True)
        assert episode is not None
        return episode

    async def _attempt(
        self, task: Task, repeat: int, attempt: int, key: tuple[str | int, ...], *, on_own_thread: bool
    ) -> Episode | None:
        """One play, from nothing; None if it found out on the rollout's loop that it needs a thread of its own."""
        onlooker = self.onlooker
        recorder = EpisodeRecorder(None if onlooker is None else lambda call: onlooker.call(task, repeat, call))
        cast = EpisodeCast(voices=self.voices, recorder=recorder, key=key)
        bridge = LoopBridge(asyncio.get_running_loop())
        gateway = EpisodeGateway(
            endpoint=self.endpoint,
            temperature=self.voices.sampling.temperature,
            max_context=self.voices.policy_engine.max_context,
            on_own_thread=on_own_thread,
        )
        workflow = self.make_workflow()
        tuner = AjetTuner(
            config=author_view(self.config),
            trainable_targets=workflow.trainable_targets,
            cast=BridgedCast(cast=cast, bridge=bridge),
            agentscope_adapter=self.agentscope_adapter,
            gateway=gateway,
            recorder=recorder,
        )
        started = time.perf_counter()
        try:
            play = self._player(workflow, tuner, on_own_thread=on_own_thread)
            outcome = await self._execute(play, task, repeat, episode_uuid(self.config.run_dir, key))
        except (NeedsOwnThread, BaseExceptionGroup):  # a program's task group passes it on in a group
            if not gateway.wants_thread:
                raise
        finally:
            gateway.close()
            bridge.close()
        if gateway.wants_thread:
            return None
        outcome = self._rewarded(outcome, cast.trained_agents)
        return Episode(
            task=task,
            repeat=repeat,
            status=outcome.status,
            rewards=outcome.rewards,
            agent_tags=dict(cast.trained_agents),
            calls=recorder.calls,
            is_success=outcome.is_success,
            metadata=outcome.output.metadata,
            log_metrics=outcome.output.log_metrics,
            error=outcome.error,
            num_attempts=attempt + 1,
            duration_s=time.perf_counter() - started,
            num_context_overflows=recorder.context_overflows,
            num_undelivered_calls=recorder.undelivered_calls,
        )

    @staticmethod
    def _player(
        workflow: Workflow, tuner: AjetTuner, *, on_own_thread: bool
    ) -> Callable[[WorkflowTask], Coroutine[Any, Any, WorkflowOutput]]:
        def play(workflow_task: WorkflowTask) -> Coroutine[Any, Any, WorkflowOutput]:
            return workflow.execute(workflow_task, tuner)

        return (lambda workflow_task: run_on_own_thread(lambda: play(workflow_task))) if on_own_thread else play

    async def _execute(
        self, play: Callable[[WorkflowTask], Coroutine[Any, Any, WorkflowOutput]], task: Task, repeat: int, uuid: str
    ) -> _Outcome:
        too_late = _Outcome(status="timeout", error=f"not done after {self.timeout_s:g} s (rollout.timeout_s)")
        deadline = asyncio.timeout(self.timeout_s)
        try:
            async with deadline, task_with_environment(self.make_env, task, repeat, uuid) as workflow_task:
                output = await play(workflow_task)
                if self.judge is not None and isinstance(output, WorkflowOutput) and output.reward is None:
                    output = await judged(self.judge, workflow_task, output)
        except ConfigError:
            raise
        except PolicyError as error:
            self._tell(task, repeat, error)
            return _Outcome(status="policy_error", error=one_line(error))
        except Exception as error:  # the boundary to code that users write: any failure is data
            self._tell(task, repeat, error)
            return too_late if deadline.expired() else _Outcome(status="infra_error", error=one_line(error))
        if deadline.expired():
            # The program swallowed the cancellation, as AgentScope's agents do: its output came too late all the same.
            return too_late
        if not isinstance(output, WorkflowOutput):
            returned = f"execute returned {type(output).__name__}, not a WorkflowOutput"
            return _Outcome(status="infra_error", error=returned)
        return _Outcome(status="ok", output=output)

    def _tell(self, task: Task, repeat: int, error: Exception) -> None:
        if self.onlooker is not None:
            self.onlooker.failure(task, repeat, error)

    def _rewarded(self, outcome: _Outcome, trained_agents: Mapping[str, str]) -> _Outcome:
        """The outcome with its rewards; failures of the infrastructure have none."""
        if outcome.status == "policy_error":
            return replace(outcome, rewards=dict.fromkeys(trained_agents, self.policy_error_reward))
        if outcome.status != "ok":
            return outcome
        try:
            return replace(outcome, rewards=rewards_by_agent(outcome.output.reward, trained_agents))
        except WorkflowError as broken:
            return replace(outcome, status="infra_error", error=str(broken))


def rewards_by_agent(reward: float | Mapping[str, float] | None, trained_agents: Mapping[str, str]) -> dict[str, float]:
    """Every trained agent's reward.

    Args:
        reward: one number for all, or numbers by target_tag or agent name (the name wins).
        trained_agents: target_tag by agent name.

    Raises:
        WorkflowError: no reward, one that is not finite, or a trained agent without one.
    """
    if reward is None:
        raise WorkflowError(
            "The workflow returned no reward and no judge is configured: return a number, or choose "
            "judge=exact_match, contains, boxed_math, python or llm."
        )
    rewards: dict[str, float] = {}
    for name, tag in trained_agents.items():
        value = reward.get(name, reward.get(tag)) if isinstance(reward, Mapping) else reward
        if value is None:
            raise WorkflowError(f"The reward mapping has neither agent {name!r} nor its target_tag {tag!r}.")
        if not math.isfinite(value):
            raise WorkflowError(f"The reward of agent {name!r} is {value}: rewards must be finite.")
        rewards[name] = float(value)
    return rewards
