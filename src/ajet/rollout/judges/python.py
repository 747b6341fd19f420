"""`judge=python`: code of a user's as the judge, a class with `compute_reward` or a function."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from ajet.config.fields import code, named
from ajet.config.user_code.importing import load_callable
from ajet.config.user_code.running import running_user_code
from ajet.errors import ConfigError
from ajet.rollout.judges.base import BaseJudge, ScoreConfig
from ajet.rollout.own_thread import run_on_own_thread

if TYPE_CHECKING:
    from ajet.workflow import WorkflowOutput, WorkflowTask


@dataclass
class PythonJudgeConfig(ScoreConfig):
    """Code of one's own, which is given the whole config and may read the settings here that others have."""

    name: str = named("python")
    entry: str = code(needed="a class with compute_reward(workflow_task, workflow_output), or a function of the two")
    """A class with `compute_reward(workflow_task, workflow_output)`, or a function of the two, as
    `package.module:name` or `path/file.py->name`; either may be async."""
    own_thread: bool = False
    """Whether each call runs on a thread, for a judge that waits for others or starts an event loop. Without, runs of
    one seed are alike. An async judge needs none."""

    @override
    def build(self, *, run_config: object, run_dir: Path) -> BaseJudge:
        """See `JudgeConfig`.

        Raises:
            ConfigError: neither a judge's class nor a function, or one whose `__init__` raises.
        """
        loaded = load_callable(self.entry, setting="judge.entry")
        if isinstance(loaded, type):
            with running_user_code(f"judge.entry={self.entry}"):
                made: Any = loaded(run_config)
            if not hasattr(made, "compute_reward"):
                raise ConfigError(f"judge.entry={self.entry}: {loaded.__name__} has no compute_reward")
            loaded = made.compute_reward
        return (ThreadJudge if self.own_thread else FunctionJudge)(self, loaded)


class FunctionJudge(BaseJudge):
    """Asks a user's function where the episode runs."""

    def __init__(self, config: PythonJudgeConfig, compute_reward: Any) -> None:
        """`compute_reward`: as `BaseJudge.compute_reward`."""
        super().__init__(config)
        self._compute_reward = compute_reward

    @override
    def compute_reward(self, workflow_task: WorkflowTask, workflow_output: WorkflowOutput) -> Any:
        return self._compute_reward(workflow_task, workflow_output)


class ThreadJudge(FunctionJudge):
    """Asks it on a thread, so that it may block there."""

    @override
    async def compute_reward(self, workflow_task: WorkflowTask, workflow_output: WorkflowOutput) -> Any:
        return await run_on_own_thread(lambda: self._compute_reward(workflow_task, workflow_output))
