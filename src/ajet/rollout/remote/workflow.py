"""The workflow that plays nothing itself: a worker does, and asks this episode's tuner for what it needs.

In: an episode's task and tuner. Out: the `WorkflowOutput` that its worker sent. A worker that is lost is an
infrastructure failure, which the runner retries with another one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any

from pydantic import Field

from ajet.errors import AjetError, ConfigError, PolicyError, WorkflowError
from ajet.rollout.endpoint.endpoint import OpenAIAddress
from ajet.rollout.remote.agreed import worker_key
from ajet.rollout.remote.queue import EpisodeQueue, RemoteEpisode, WorkerRequest
from ajet.tuner import AjetTuner
from ajet.workflow import Workflow, WorkflowOutput, WorkflowTask

ALONE_S = 30.0
"""That episodes wait before it is said that no worker asks for them."""
_ITS_OWN = OpenAIAddress(base_url="", api_key="", model="")
"""Stands for the model that the worker has for an agent itself."""


class WorkerLostError(AjetError):
    """A worker gave an episode up, or was not heard of for too long."""


class WorkersWorkflow(Workflow):
    """Hands episodes to `python -m ajet.rollout.worker`, or to whatever speaks HTTP as it does."""

    own_thread: bool | None = True
    port: int = Field(default=8765, ge=1, le=65535)
    """Where workers ask for episodes, at `endpoint.host`."""
    lease_s: float = Field(default=30.0, gt=0, allow_inf_nan=False)
    """So long after the last word of its worker an episode is given up and played again."""

    def model_post_init(self, context: Any) -> None:
        """Look for the key as the settings are checked, before anything loads.

        Raises:
            ConfigError: there is none.
        """
        worker_key()

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
        task = _as_sent(workflow_task)
        queue = queue_at(tuner.config.endpoint.host, self.port)
        return await self._played(RemoteEpisode(), task | {"trainable_targets": self.trainable_targets}, queue, tuner)

    async def _played(
        self, episode: RemoteEpisode, task: Mapping[str, Any], queue: EpisodeQueue, tuner: AjetTuner
    ) -> WorkflowOutput:
        queue.offer(episode)
        try:
            worker = await self._claimed(episode, task, queue)
            while True:
                request = await self._heard(episode, worker)
                if request.verb == "finish":
                    output = WorkflowOutput(**request.body)  # checked as it came in
                    request.say()
                    return output
                if request.verb == "abort":
                    request.say()
                    said = f"worker {worker}: {request.body['error']}"
                    raise PolicyError(said) if request.body["policy"] else WorkerLostError(said)
                _answer(request, tuner)
        finally:
            queue.withdraw(episode)

    async def _claimed(self, episode: RemoteEpisode, task: Mapping[str, Any], queue: EpisodeQueue) -> str:
        """Wait for a worker, for as long as the runner lets an episode take; the worker's name."""
        while True:
            try:
                request = await episode.next_request(within_s=ALONE_S)
                break
            except TimeoutError:
                queue.warn_if_idle(ALONE_S)
        request.say({"episode": episode.id, "lease_s": self.lease_s, **task})
        return str(request.body["worker"])

    async def _heard(self, episode: RemoteEpisode, worker: str) -> WorkerRequest:
        try:
            return await episode.next_request(within_s=self.lease_s)
        except TimeoutError:
            raise WorkerLostError(
                f"worker {worker} was not heard of for {self.lease_s:g} s (workflow.params.lease_s)"
            ) from None


def _as_sent(workflow_task: WorkflowTask) -> dict[str, Any]:
    """A task as JSON has it: tuples are lists there, and mappings' keys texts.

    Raises:
        ConfigError: it holds what JSON has no form for.
    """
    task = workflow_task.task
    content = {field.name: getattr(task, field.name) for field in fields(task)} | {"metadata": dict(task.metadata)}
    sent = {"task": content, "repeat": workflow_task.repeat, "episode_uuid": workflow_task.episode_uuid}
    try:
        json.dumps(sent)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"Task {task.task_id} cannot be sent to workers, {error}: let the reader (data=...) give numbers, texts, "
            "lists and mappings"
        ) from error
    return sent


def _answer(request: WorkerRequest, tuner: AjetTuner) -> None:
    """What the tuner says, or what it raises.

    Raises:
        Exception: what is no mistake of the request, e.g. ConfigError; the worker is told, too.
    """
    try:
        request.say(_ANSWERS[request.verb](tuner, request.body))
    except WorkflowError as error:
        request.fail(error)
    except Exception as error:  # a user's opponent may raise anything
        request.fail(error)
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
