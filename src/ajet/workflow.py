"""What a user writes: a `Workflow` subclass whose `execute` plays one episode.

In: a `WorkflowTask` and the episode's `AjetTuner`, which hands out models for agents.
Out: a `WorkflowOutput`. No base class beyond pydantic's, no registration.
"""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ajet.records import Task
from ajet.tracking.files.legible import escape_control_characters

if TYPE_CHECKING:
    import random

    from ajet.chat.types import ChatModel
    from ajet.tuner import AjetTuner


MOST_METRIC_LEVELS = 20
"""Of mappings in `log_metrics`."""
MOST_NAME_CHARACTERS = 1000
"""Of a metric, with the names of the mappings that it lies in."""
NOT_FINITE = "not_finite"
"""What counts a metric's values that are not finite, as `<name>/not_finite`."""


class WorkflowTask(BaseModel):
    """What `execute` is given: the task, and an environment where the task names one."""

    model_config = ConfigDict(arbitrary_types_allowed=True, frozen=True)

    task: Task
    repeat: int = 0
    """Which of the group's episodes this is, from 0. Seed the game by the task, not by this."""
    gym_env: Any = None
    """The episode's environment, where `workflow.env` names what makes it."""
    episode_uuid: str = ""
    """32 hexadecimal digits that no other attempt at any episode of this run has, e.g. to name an instance on a server
    of environments; the same again where the run is repeated in its directory."""

    @property
    def task_id(self) -> str:
        """The name of the task that is played, e.g. `train-17`."""
        return self.task.task_id

    @property
    def env_type(self) -> str:
        """The kind of environment that the task names, e.g. `seeds`."""
        return self.task.env_type


class WorkflowOutput(BaseModel):
    """What `execute` returns."""

    model_config = ConfigDict(extra="forbid")

    reward: float | dict[str, float] | None = None
    """One number for every trained agent, or one by target_tag or by agent name; None asks the judge. What
    `tuner.add_reward` gave for single replies comes on top."""
    is_success: bool | None = None
    """Whether the trained side reached its goal; logged as `episode/success_rate`."""
    metadata: dict[str, Any] = Field(default_factory=dict)
    """Kept with the episode."""
    log_metrics: dict[str, float] = Field(default_factory=dict)
    """Logged as `workflow/<name>`, averaged over episodes; a list stands for its mean, an empty one for nothing, and
    a mapping for `<name>/<its names>`. Values that are not finite, of a list one or their sum, are left out of the mean
    and counted as `workflow/<name>/not_finite`. Control characters and half surrogate pairs in names become escapes;
    an empty name is refused, and one that another metric has, too."""

    @field_validator("log_metrics", mode="before")
    @classmethod
    def _flat(cls, metrics: Any) -> Any:
        return flat_metrics(metrics) if isinstance(metrics, Mapping) else metrics


def flat_metrics(metrics: Mapping[Any, Any]) -> dict[str, Any]:
    """Names with `/` in place of mappings in mappings, and means in place of lists.

    Example: {"turns": [1, 3], "day": {"votes": 2}} is {"turns": 2.0, "day/votes": 2}.

    Raises:
        ValueError: more levels than anyone names, or a name that is empty, too long, taken, or that of a count of ours.
    """
    flat: dict[str, Any] = {}
    open_mappings: list[tuple[str, Mapping[Any, Any], int]] = [("", metrics, 0)]
    while open_mappings:
        prefix, mapping, level = open_mappings.pop()
        if level > MOST_METRIC_LEVELS:
            raise ValueError(f"mappings {MOST_METRIC_LEVELS} levels deep, or one that holds itself")
        for key, value in mapping.items():
            name = _metric_name(prefix, key)
            if isinstance(value, Mapping):
                open_mappings.append((f"{name}/", value, level + 1))
            elif name in flat:
                raise ValueError(f"there are two metrics whose names read {name!r}")
            elif not isinstance(value, list | tuple):
                flat[name] = _number(value)
            elif value:
                flat[name] = _mean(value)
    return flat


def _metric_name(prefix: str, key: Any) -> str:
    name = escape_control_characters(f"{prefix}{key}")
    if len(name) > MOST_NAME_CHARACTERS:
        raise ValueError(f"a metric's name has more than {MOST_NAME_CHARACTERS} characters: {name[:80]}…")
    if name == prefix:
        raise ValueError(f"a metric has an empty name{f' in {prefix!r}' if prefix else ''}")
    if name.rpartition("/")[2] == NOT_FINITE:
        raise ValueError(f"the name {name!r} is taken: {NOT_FINITE} counts a metric's values that are not finite")
    return name


def _number(value: Any) -> Any:
    """Whole numbers that no float holds are as good as infinite."""
    try:
        return float(value) if isinstance(value, int) else value
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _mean(values: Sequence[Any]) -> float:
    numbers = [math.fsum([_number(value)]) for value in values]  # a float each; a text is refused
    try:
        return fmean(numbers)
    except (OverflowError, ValueError):  # their sum is too large, or infinities of both signs
        return math.nan


class Workflow(BaseModel):
    """Base class of a workflow. Fields are its parameters: `workflow.params` in the config sets them."""

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)

    name: str = "workflow"
    """For the user's own use."""
    trainable_targets: list[str] | None = None
    """Tags to train; None trains every agent. The config's `trainable_targets` wins."""
    own_thread: bool | None = None
    """Whether each episode runs on a thread of its own, where it may block. None: if the code of this class names
    `as_oai_baseurl_apikey`, itself or in what it calls by name. A plain `execute` always does."""

    target_tags: ClassVar[tuple[str, ...]] = ()
    """Every tag the workflow uses, for early errors; empty where it cannot say."""
    opposing_sides: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """Sides whose tags must not be trained together, e.g. `(("werewolf",), ("seer", "witch"))`."""
    has_own_models: ClassVar[bool] = True
    """Whether `execute` brings a `debug_model` for every agent that is not trained."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Understand `hostile`, the former name of `opposing_sides`, until 0.2: unread, both would be trained."""
        super().__init_subclass__(**kwargs)
        if "hostile" in cls.__dict__ and "opposing_sides" not in cls.__dict__:
            warnings.warn(f"{cls.__name__}.hostile is called opposing_sides now", DeprecationWarning, stacklevel=2)
            cls.opposing_sides = cls.__dict__["hostile"]

    @abstractmethod
    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """Play one episode. A plain function does as well: it runs on a thread of its own and may block there.

        Raises:
            PolicyError: the policy's own fault; scored with `rollout.policy_error_reward`.
            BaseException: anything else is an infrastructure failure, retried and then dropped.
        """
        raise NotImplementedError

    @classmethod
    def has_scripted_players(cls) -> bool:
        """Whether the workflow has scripted players, that is, a `scripted_player` of its own."""
        return cls.scripted_player.__func__ is not Workflow.scripted_player.__func__  # type: ignore[attr-defined]

    @classmethod
    def scripted_player(
        cls, *, agent_name: str, target_tag: str, rng: random.Random, params: Mapping[str, float]
    ) -> ChatModel | None:
        """The player behind `opponent=scripted`: it sees the agent's requests and nothing else.

        None (the default) says that the workflow has no scripted players.
        `rng` is this agent's own in this episode; `params` come from `opponent.params`.
        """
        return None
