"""The workflow that plays nothing itself: a worker does, and asks this episode's tuner for what it needs.

In: an episode's task and tuner. Out: the `WorkflowOutput` that its worker sent. A worker that is lost is an
infrastructure failure, which the runner retries with another one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from pydantic import Field

from ajet.errors import AjetError, ConfigError, PolicyError, WorkflowError
from ajet.rollout.endpoint.endpoint import OpenAIAddress
from ajet.rollout.remote.queue import EpisodeQueue, RemoteEpisode, WorkerRequest
from ajet.tuner import AjetTuner
from ajet.workflow import Workflow, WorkflowOutput, WorkflowTask

ALONE_S = 30.0
"""That an episode waits before it is said that no worker has come."""
_ITS_OWN = OpenAIAddress(base_url="", api_key="", model="")
"""Stands for the model that the worker has for an agent itself."""


class WorkerLostError(AjetError):
    """A worker gave an episode up, or was not heard of for too long."""


class WorkersWorkflow(Workflow):
    """Hands episodes to `python -m ajet.rollout.worker`, or to whatever speaks HTTP as it does."""

    own_thread: bool | None = True
    port: int = Field(default=8765, ge=1, le=65535)
    """Where workers ask for episodes, at `endpoint.host`."""
    lease_s: float = Field(default=30.0, gt=0)
    """So long after the last word of its worker an episode is given up and played again."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """Offer the episode, answer its worker, return what it sends.

        Raises:
            PolicyError: the worker said so.
            WorkerLostError: it gave up, or is lost.
            ConfigError: the address cannot be served, there is no key, or an agent has nobody to speak for it.
        """
        from ajet.rollout.remote.server import queue_at  # loads a web server

        if workflow_task.gym_env is not None:
            raise ConfigError("workflow.env makes environments here, and workers play elsewhere: make them there.")
        queue = queue_at(tuner.config.endpoint.host, self.port, self.lease_s)
        return await self._played(RemoteEpisode(workflow_task, tuner.trainable_targets), queue, tuner)

    async def _played(self, episode: RemoteEpisode, queue: EpisodeQueue, tuner: AjetTuner) -> WorkflowOutput:
        queue.offer(episode)
        try:
            worker = await self._claimed(episode, queue)
            while True:
                request = await self._heard(episode, worker)
                if request.verb == "finish":
                    output = WorkflowOutput(**request.body)  # checked as it came in
                    request.answer.set_result(None)
                    return output
                if request.verb == "abort":
                    request.answer.set_result(None)
                    said = f"worker {worker}: {request.body['error']}"
                    raise PolicyError(said) if request.body["policy"] else WorkerLostError(said)
                _answer(request, tuner)
        finally:
            queue.withdraw(episode)

    async def _claimed(self, episode: RemoteEpisode, queue: EpisodeQueue) -> str:
        """Wait for a worker, for as long as the runner lets an episode take; the worker's name."""
        try:
            request = await episode.next_request(within_s=ALONE_S)
        except TimeoutError:
            queue.warn_if_unknown(f"no worker has asked for an episode in {ALONE_S:g} s; the run waits for one")
            request = await episode.next_request(within_s=None)
        task = episode.workflow_task
        request.answer.set_result(
            {
                "episode": episode.id,
                "lease_s": self.lease_s,
                "task": asdict(task.task),
                "repeat": task.repeat,
                "episode_uuid": task.episode_uuid,
                "trainable_targets": episode.trainable_targets,
            }
        )
        return str(request.body["worker"])

    async def _heard(self, episode: RemoteEpisode, worker: str) -> WorkerRequest:
        try:
            return await episode.next_request(within_s=self.lease_s)
        except TimeoutError:
            raise WorkerLostError(
                f"worker {worker} was not heard of for {self.lease_s:g} s (workflow.params.lease_s)"
            ) from None


def _answer(request: WorkerRequest, tuner: AjetTuner) -> None:
    """What the tuner says, or what it raises.

    Raises:
        ConfigError: what no retry can mend; the worker is told, too.
    """
    try:
        request.answer.set_result(_ANSWERS[request.verb](tuner, request.body))
    except (ConfigError, WorkflowError) as error:
        request.answer.set_exception(error)
        if isinstance(error, ConfigError):
            raise


def _agent(tuner: AjetTuner, body: Mapping[str, Any]) -> dict[str, Any]:
    address = tuner.as_oai_baseurl_apikey(
        agent_name=body["agent_name"],
        target_tag=body["target_tag"],
        debug_model=_ITS_OWN if body["has_own_model"] else None,
    )
    return {"own_model": True} if address == _ITS_OWN else {"own_model": False, **asdict(address)}


def _add_reward(tuner: AjetTuner, body: Mapping[str, Any]) -> None:
    tuner.add_reward(body["value"], agent_name=body["agent_name"])


def _context(tuner: AjetTuner, _: Mapping[str, Any]) -> dict[str, Any]:
    return {"num_context_overflows": tuner.get_context_tracker().num_context_overflows}


_ANSWERS: Mapping[str, Callable[[AjetTuner, Mapping[str, Any]], Any]] = {
    "renew": lambda tuner, body: None,
    "agent": _agent,
    "add_reward": _add_reward,
    "context": _context,
}
