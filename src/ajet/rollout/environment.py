"""The environment of one attempt at an episode: made from its task, closed when it is over and judged."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol, runtime_checkable

from ajet.records import Task
from ajet.workflow import WorkflowTask

EnvironmentMaker = Callable[[Task], Any]
"""`workflow.env`: a task -> its environment, or an awaitable of it."""


@runtime_checkable
class _Closable(Protocol):
    def close(self) -> Any: ...


@asynccontextmanager
async def task_with_environment(
    make_env: EnvironmentMaker | None, task: Task, repeat: int
) -> AsyncIterator[WorkflowTask]:
    """What `execute` and the judge are given, with the environment as `gym_env`; None where the config names none.

    Raises:
        Exception: whatever making or closing the environment raised; a failure of the infrastructure.
    """
    env = None if make_env is None else await _settled(make_env(task))
    try:
        yield WorkflowTask(task=task, repeat=repeat, gym_env=env)
    finally:
        if isinstance(env, _Closable):
            await _settled(env.close())


async def _settled(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
