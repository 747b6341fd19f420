"""The environment of one attempt at an episode: made from its task, closed when it is over and judged."""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable
from uuid import NAMESPACE_OID, uuid5

from ajet.records import Task
from ajet.workflow import WorkflowTask

EnvironmentMaker = Callable[[Task], Any]
"""`workflow.env`: a task -> its environment, or an awaitable of it."""


@runtime_checkable
class _Closable(Protocol):
    def close(self) -> Any: ...


def episode_uuid(run_dir: str, key: Sequence[str | int]) -> str:
    """See `WorkflowTask.episode_uuid`.

    Args:
        run_dir: runs of one seed that are played side by side may share a server of environments.
        key: what no other attempt of the run shares: run seed, collection, task, repeat, attempt. What seeds it would
            not do, for evaluations before and after training draw from the same streams.
    """
    return uuid5(NAMESPACE_OID, json.dumps([run_dir, *key])).hex


@asynccontextmanager
async def task_with_environment(
    make_env: EnvironmentMaker | None, task: Task, repeat: int, episode_uuid: str = ""
) -> AsyncIterator[WorkflowTask]:
    """What `execute` and the judge are given, with the environment as `gym_env`; None where the config names none.

    Messages and metadata are this attempt's own: a program that appends to them leaves no trace in another.

    Raises:
        BaseException: whatever making or closing the environment raised; a failure of the infrastructure.
    """
    task = replace(task, init_messages=_own(task.init_messages), metadata=_own(task.metadata))
    env = None if make_env is None else await _settled(make_env(task))
    try:
        yield WorkflowTask(task=task, repeat=repeat, gym_env=env, episode_uuid=episode_uuid)
    finally:
        if isinstance(env, _Closable):
            await _settled(env.close())


def _own(value: Any) -> Any:
    """Lists and dicts anew, at any depth, and whatever else they hold as it is."""
    if type(value) is dict:
        return {key: _own(part) for key, part in value.items()}
    return [_own(part) for part in value] if type(value) is list else value


async def _settled(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
