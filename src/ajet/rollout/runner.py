"""One episode: build its tuner, run the workflow, turn whatever happens into an `Episode`.

In: a task and a repeat. Out: an episode with a status, never an exception, save for errors that no retry can
mend (`ConfigError`), cancellation from outside and the user's own interrupt.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ajet.chat.recording import EpisodeRecorder
from ajet.chat.types import ChatModel
from ajet.config.authors.lines import one_line
from ajet.config.view import author_view
from ajet.errors import ConfigError, PolicyError, WorkflowError
from ajet.records import Episode, EpisodeStatus, Task
from ajet.rollout.boundary import Ended, run_within
from ajet.rollout.cast import BridgedCast, EpisodeCast, Voices
from ajet.rollout.endpoint.bridge import LoopBridge
from ajet.rollout.endpoint.endpoint import Endpoint
from ajet.rollout.environment import EnvironmentMaker, episode_uuid, task_with_environment
from ajet.rollout.gateway import EpisodeGateway, ThreadUse
from ajet.rollout.judges.base import BaseJudge, judged
from ajet.rollout.outputs import kept_output
from ajet.rollout.own_thread import run_on_own_thread
from ajet.rollout.watch import Onlooker
from ajet.tuner import AjetTuner
from ajet.workflow import Workflow, WorkflowOutput

if TYPE_CHECKING:
    from ajet.config.root import Config

GRACE_S = 5.0
"""For a program to end once it was cancelled."""
NOTICED_S = 1.0
"""Of a blocked loop, from which on an error speaks of it."""
MOST_REWARD = 3.4e38
"""What a 32-bit float holds, as trajectories and training keep rewards."""


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
    say: Callable[[str], None] = field(default=lambda text: print(text, file=sys.stderr, flush=True))
    """Takes warnings for the user."""
    grace_s: float = GRACE_S
    """The second deadline: so long after the first a program may take to end."""
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

        def close() -> None:
            gateway.close()
            bridge.close()

        def at_deadline() -> None:
            # A program that waits on its thread for a reply is woken so; one on the loop is woken by its cancellation.
            if gateway.on_own_thread:
                close()

        started = time.perf_counter()
        try:
            ended = await run_within(
                lambda: self._played(task, repeat, key, BridgedCast(cast=cast, bridge=bridge), gateway, recorder),
                timeout_s=self.timeout_s,
                grace_s=self.grace_s,
                on_deadline=at_deadline,
            )
        finally:
            close()
        if ended.is_left_behind:
            self._tell_left_behind(task, repeat)
        if gateway.wants_thread:  # a program's own handlers may have hidden that it was sent away
            return None
        outcome = self._rewarded(self._outcome(ended, task, repeat), cast.trained_agents)
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

    async def _played(
        self,
        task: Task,
        repeat: int,
        key: tuple[str | int, ...],
        cast: BridgedCast,
        gateway: EpisodeGateway,
        recorder: EpisodeRecorder,
    ) -> WorkflowOutput:
        """Everything of an attempt that runs an author's code, from making the workflow to closing the environment."""
        workflow = self.make_workflow()
        tuner = AjetTuner(
            config=author_view(self.config),
            trainable_targets=workflow.trainable_targets,
            cast=cast,
            agentscope_adapter=self.agentscope_adapter,
            gateway=gateway,
            recorder=recorder,
        )
        if not inspect.iscoroutinefunction(workflow.execute):
            gateway.on_own_thread = True  # a plain function may block
        output: Any  # of a type that the author chose
        uuid = episode_uuid(self.config.run_dir, key)
        async with task_with_environment(self.make_env, task, repeat, uuid) as workflow_task:
            if gateway.on_own_thread:
                output = await run_on_own_thread(lambda: workflow.execute(workflow_task, tuner))
            else:
                output = await workflow.execute(workflow_task, tuner)
            if self.judge is not None and isinstance(output, WorkflowOutput) and output.reward is None:
                output = await judged(self.judge, workflow_task, output)
        return kept_output(output)

    def _outcome(self, ended: Ended[WorkflowOutput], task: Task, repeat: int) -> _Outcome:
        """What became of the program, whatever it raised.

        Raises:
            ConfigError: the program's own, which no retry can mend.
        """
        error = ended.error
        kind = type(error)  # `isinstance` would also ask it for its `__class__`, which its author may have written
        if error is not None and issubclass(kind, ConfigError):
            raise error
        if error is not None:
            self._tell(task, repeat, error)
        if ended.is_late:
            return _Outcome(status="timeout", error=self._lateness(ended))
        if error is not None:
            return _Outcome(
                status="policy_error" if issubclass(kind, PolicyError) else "infra_error", error=one_line(error)
            )
        return _Outcome(status="ok", output=ended.result())

    def _lateness(self, ended: Ended[WorkflowOutput]) -> str:
        said = f"not done after {self.timeout_s:g} s (rollout.timeout_s)"
        if ended.is_left_behind:
            said += f", nor {self.grace_s:g} s after it was cancelled, and left behind"
        if ended.blocked_s > NOTICED_S:
            said += (
                f"; a blocking call in one of the programs held all of them up for {ended.blocked_s:.0f} s more: "
                "write execute as a plain function, which runs on a thread of its own"
            )
        return said

    def _tell_left_behind(self, task: Task, repeat: int) -> None:
        self.say(
            f"warning: {self.config.workflow.entry}, task {task.task_id}, repeat {repeat}: the program went on "
            f"{self.grace_s:g} s after it was cancelled and is left behind; its models answer no more"
        )

    def _tell(self, task: Task, repeat: int, error: BaseException) -> None:
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
        if not math.isfinite(value) or abs(value) > MOST_REWARD:
            raise WorkflowError(f"The reward of agent {name!r} is {value}: rewards must be finite 32-bit numbers.")
        rewards[name] = float(value)
    return rewards
