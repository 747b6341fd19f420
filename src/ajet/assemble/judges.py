"""The config's judge group -> a judge."""

from __future__ import annotations

from typing import Any

from ajet.config.authors.importing import authors_code, load_object
from ajet.config.root import Config
from ajet.config.view import author_view
from ajet.errors import ConfigError
from ajet.rollout.judges.answers import BoxedMath, Contains, ExactMatch
from ajet.rollout.judges.base import BaseJudge
from ajet.rollout.judges.llm import LlmJudge
from ajet.rollout.own_thread import run_on_own_thread
from ajet.workflow import WorkflowOutput, WorkflowTask

_BUILT_IN: dict[str, type[BaseJudge]] = {
    "exact_match": ExactMatch,
    "boxed_math": BoxedMath,
    "contains": Contains,
    "llm": LlmJudge,
}


def make_judge(config: Config) -> BaseJudge | None:
    """The run's judge; None where the workflow has to say its rewards itself.

    Raises:
        ConfigError: a `judge.entry` that is neither a judge's class nor a function.
    """
    if config.judge.name == "none":
        return None
    if config.judge.name != "python":
        return _BUILT_IN[config.judge.name](config)
    assert config.judge.entry is not None
    loaded = load_object(config.judge.entry, setting="judge.entry")
    if isinstance(loaded, type):
        with authors_code(f"judge.entry={config.judge.entry}"):
            made = loaded(author_view(config))
        if not hasattr(made, "compute_reward"):
            raise ConfigError(f"judge.entry={config.judge.entry}: {loaded.__name__} has no compute_reward")
        loaded = made.compute_reward
    elif not callable(loaded):
        raise ConfigError(f"judge.entry={config.judge.entry} is neither a class nor a function")
    return (_OnThread if config.judge.own_thread else _OfOnesOwn)(config, loaded)


class _OfOnesOwn(BaseJudge):
    def __init__(self, config: Config, compute_reward: Any) -> None:
        super().__init__(config)
        self._compute_reward = compute_reward

    def compute_reward(self, workflow_task: WorkflowTask, workflow_output: WorkflowOutput) -> Any:
        return self._compute_reward(workflow_task, workflow_output)


class _OnThread(_OfOnesOwn):
    async def compute_reward(self, workflow_task: WorkflowTask, workflow_output: WorkflowOutput) -> Any:
        return await run_on_own_thread(lambda: self._compute_reward(workflow_task, workflow_output))
