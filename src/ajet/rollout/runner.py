"""One episode: build its tuner, run the workflow, turn whatever happens into an `Episode`.

In: a task and a repeat. Out: an episode with a status, never an exception, save for errors that no retry can
mend (`ConfigError`, `EngineLostError`), cancellation from outside and the user's own interrupt.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ajet.config.user_code.lines import one_line
from ajet.config.view import user_view
from ajet.errors import ConfigError, PolicyError, WorkflowError
from ajet.records import Call, Episode, EpisodeStatus, Replay, ReplayRequest, Task
from ajet.rollout.agent_model import ReplySource
from ajet.rollout.boundary import ProgramResult, run_within
from ajet.rollout.endpoint.endpoint import Endpoint
from ajet.rollout.environment import EnvironmentMaker, episode_uuid, task_with_environment
from ajet.rollout.judges.base import BaseJudge, apply_judge
from ajet.rollout.outputs import kept_output
from ajet.rollout.own_thread import needs_own_thread, run_on_own_thread
from ajet.rollout.refusals import Refusals
from ajet.rollout.replaying import Drawing, Replaying
from ajet.rollout.rewards import rewards_by_agent
from ajet.rollout.running_episode import Agent, RunningEpisode
from ajet.tuner import AjetTuner
from ajet.workflow import Workflow, WorkflowOutput

if TYPE_CHECKING:
    from ajet.config.root import Config

GRACE_S = 5.0
"""For a program to end once it was cancelled."""
NOTICED_S = 1.0
"""Of a blocked loop, from which on an error speaks of it."""


def _nothing(*_: object) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutCallbacks:
    """Called as things happen in a run's episodes, on the rollout's thread; each does nothing unless it is given."""

    on_call: Callable[[Task, int, Call], None] = _nothing
    """(task, repeat, call): a call was answered and recorded."""
    on_failure: Callable[[Task, int, BaseException], None] = _nothing
    """(task, repeat, error): the workflow's program raised, with the traceback that this exception carries."""
    on_episode: Callable[[Episode], None] = _nothing
    """An episode ended, its retries included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _AttemptResult:
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
    reply_source: Callable[[Agent], ReplySource | None]
    """Who answers an agent; None leaves one that is not trained to the workflow's own model."""
    endpoint: Endpoint
    """Where workflows that ask for URLs get them; starts no server before one does."""
    judge: BaseJudge | None = None
    """Who scores outputs that have no reward."""
    make_env: EnvironmentMaker | None = None
    """Makes each attempt's environment, for workflows that are given one."""
    callbacks: RolloutCallbacks = field(default_factory=RolloutCallbacks)
    say: Callable[[str], None] = field(default=lambda text: print(text, file=sys.stderr, flush=True))
    """Takes warnings for the user."""
    grace_s: float = GRACE_S
    """The second deadline: so long after the first a program may take to end."""
    held_up_s: Callable[[], float] = lambda: 0.0
    """Seconds so far in which the policy's engine was at other work; they count towards no deadline."""
    refusals: Refusals = field(init=False)
    """What trained agents may not ask for; one for the run, since it warns once."""
    needs_thread_by_class: dict[type[Workflow], bool] = field(default_factory=dict, init=False)
    """Which classes' episodes need a thread of their own, as far as their code had to be read."""

    def __post_init__(self) -> None:
        ignore = self.config.endpoint.unsupported == "ignore"
        object.__setattr__(self, "refusals", Refusals(temperature=self.config.rollout.temperature, ignore=ignore))

    async def run(
        self, task: Task, *, repeat: int, stream: str, attempt: int, collection: str | None = None
    ) -> Episode:
        """Play one attempt.

        Args:
            task: what to play.
            repeat: which episode of the group.
            stream: names the randomness (`eval`, `train/<step>`), so that evaluation never disturbs training and a
                task that comes again is played anew.
            attempt: from 0; a retry draws afresh.
            collection: names what is played once within the run, where a stream is drawn from again, as in each
                evaluation (`eval/<step>`); None: the stream does.

        Raises:
            ConfigError: the settings cannot work; retrying would not help.
            EngineLostError: nor would it here.
        """
        key = (self.config.seed, stream, task.task_id, repeat, attempt)
        uuid = episode_uuid(self.config.run_dir, (self.config.seed, collection or stream, *key[2:]))
        return await self._run(task, repeat, key, uuid, Drawing())

    async def replay(self, request: ReplayRequest, *, stream: str, attempt: int) -> Replay:
        """Play an episode again, with one thing changed; errors as `run`.

        Args:
            request: what is changed.
            stream: the episode's.
            attempt: at this replay, from 0; a retry draws as the first attempt does.
        """
        episode, drawing = request.episode, Replaying(request)
        key = (self.config.seed, stream, episode.task.task_id, episode.repeat, episode.num_attempts - 1)
        uuid = episode_uuid(self.config.run_dir, (*key, *request.change, attempt))
        again = await self._run(episode.task, episode.repeat, key, uuid, drawing)
        return Replay(
            request=request,
            episode=again,
            is_reproduced=drawing.is_reproduced,
            num_given=drawing.num_given,
            num_sampled_tokens=drawing.num_sampled_tokens,
        )

    async def _run(
        self, task: Task, repeat: int, key: tuple[int, str, str, int, int], uuid: str, drawing: Drawing
    ) -> Episode:
        """An attempt; `key` (run seed, stream, task, repeat, attempt) seeds it."""
        running = RunningEpisode(
            key, loop=asyncio.get_running_loop(), on_call=partial(self.callbacks.on_call, task, repeat), drawing=drawing
        )
        started = time.perf_counter()
        ended = await self._attempt(task, repeat, uuid, running)
        if running.lost_engine is not None:
            raise running.lost_engine
        outcome = self._rewarded(self._outcome(ended, task, repeat), running)
        return Episode(
            task=task,
            repeat=repeat,
            status=outcome.status,
            rewards=outcome.rewards,
            agent_tags=dict(running.agent_tags),
            calls=running.calls,
            is_success=outcome.is_success,
            metadata=outcome.output.metadata,
            log_metrics=outcome.output.log_metrics,
            error=outcome.error,
            num_attempts=key[-1] + 1,
            duration_s=time.perf_counter() - started,
            num_context_overflows=running.context_overflows,
            num_undelivered_calls=running.undelivered_calls,
        )

    async def _attempt(
        self, task: Task, repeat: int, uuid: str, running: RunningEpisode
    ) -> ProgramResult[WorkflowOutput]:
        """How the program ended, within its deadlines; its models answer no more, whatever became of it."""
        try:
            return await run_within(
                lambda: self._play(task, repeat, uuid, running),
                timeout_s=self.config.rollout.timeout_s,
                held_up_s=self.held_up_s,
                grace_s=self.grace_s,
                # A program that waits on its thread for a reply is woken so; one on the loop is by its cancellation.
                on_deadline=lambda: self._end(running) if running.on_own_thread else None,
            )
        finally:
            self._end(running)

    async def _play(self, task: Task, repeat: int, uuid: str, running: RunningEpisode) -> WorkflowOutput:
        """Everything of an attempt that runs a user's code, from making the workflow to closing the environment."""
        workflow = self.make_workflow()
        running.on_own_thread = needs_own_thread(workflow, self.needs_thread_by_class)
        tuner = AjetTuner(
            config=user_view(self.config),
            trainable_targets=workflow.trainable_targets,
            reply_source=self.reply_source,
            episode=running,
            endpoint=self.endpoint,
            refusals=self.refusals,
        )
        output: Any  # of a type that the user chose
        async with task_with_environment(self.make_env, task, repeat, uuid) as workflow_task:
            if running.on_own_thread:
                output = await run_on_own_thread(lambda: workflow.execute(workflow_task, tuner))
            else:
                output = await workflow.execute(workflow_task, tuner)
            if self.judge is not None and isinstance(output, WorkflowOutput) and output.reward is None:
                output = await apply_judge(self.judge, workflow_task, output)
        return kept_output(output)

    def _end(self, running: RunningEpisode) -> None:
        """Its keys open nothing more, and its models answer no more."""
        self.endpoint.end(running)
        running.answers.close()

    def _outcome(self, ended: ProgramResult[WorkflowOutput], task: Task, repeat: int) -> _AttemptResult:
        """What became of the program, whatever it raised.

        Raises:
            ConfigError: the program's own, which no retry can mend.
        """
        if ended.is_left_behind:
            self.say(
                f"warning: {self.config.workflow.entry}, task {task.task_id}, repeat {repeat}: the program went on "
                f"{self.grace_s:g} s after it was cancelled and is left behind; its models answer no more"
            )
        error = ended.error
        kind = type(error)  # `isinstance` would also ask it for its `__class__`, which a user may have written
        if error is not None and issubclass(kind, ConfigError):
            raise error
        if error is not None:
            self.callbacks.on_failure(task, repeat, error)
        if ended.is_late:
            return _AttemptResult(status="timeout", error=self._timeout_text(ended))
        if error is not None:
            return _AttemptResult(
                status="policy_error" if issubclass(kind, PolicyError) else "infra_error", error=one_line(error)
            )
        return _AttemptResult(status="ok", output=ended.result())

    def _timeout_text(self, ended: ProgramResult[WorkflowOutput]) -> str:
        said = f"not done after {self.config.rollout.timeout_s:g} s (rollout.timeout_s)"
        if ended.is_left_behind:
            said += f", nor {self.grace_s:g} s after it was cancelled, and left behind"
        if ended.blocked_s > NOTICED_S:
            said += (
                f"; all episodes were held up for {ended.blocked_s:.0f} s more, by a blocking call in one of the "
                "programs (write execute as a plain function, which runs on a thread of its own) or by the engine"
            )
        return said

    def _rewarded(self, outcome: _AttemptResult, running: RunningEpisode) -> _AttemptResult:
        """The outcome with its rewards; failures of the infrastructure have none."""
        if outcome.status not in ("ok", "policy_error"):
            return outcome
        was_played = outcome.status == "ok"
        reward = outcome.output.reward if was_played else self.config.rollout.policy_error_reward
        try:
            rewards = rewards_by_agent(reward, running.agent_tags, running.calls, running.replaced_rewards)
            return replace(outcome, rewards=rewards)
        except WorkflowError as broken:
            return replace(outcome, status="infra_error", error=str(broken))
