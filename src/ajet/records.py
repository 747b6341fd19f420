"""The records that flow through one training step: tasks in, calls and episodes out, samples to train on.

All are frozen, slotted and keyword-only. A record holds what happened; what it computes are readings that everybody
shares. Left out on purpose: tensors (training makes its own) and configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Literal

EpisodeStatus = Literal["ok", "policy_error", "infra_error", "timeout"]
EPISODE_STATUSES: tuple[EpisodeStatus, ...] = ("ok", "policy_error", "infra_error", "timeout")
FinishReason = Literal["stop", "length"]
MOST_REWARD = 3.4e38
"""What a 32-bit float holds, as trajectories and training keep rewards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One problem to play. Its `task_id` names it across epochs, runs and machines."""

    task_id: str = ""
    """Stable id, unique within a split; empty until the task has been read, which gives it one."""
    main_query: str = ""
    """The question, for tasks that are one question."""
    init_messages: list[Any] = field(default_factory=list)
    """Messages that a conversation starts from, mappings in OpenAI format; a list, whatever it was made of."""
    env_type: str = ""
    """The environment's name, for workflows that serve several."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Whatever the workflow needs, e.g. `random_number` for seeded games."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "init_messages", list(self.init_messages))


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What an engine sampled for one prompt."""

    token_ids: tuple[int, ...]
    """Sampled ids, the end-of-turn id included if it was sampled."""
    logprobs: tuple[float, ...]
    """log pi(id) of each sampled id under the distribution sampled from, after temperature and grammar; same length."""
    finish_reason: FinishReason
    """`stop`: a stop id was sampled (it is the last id), or the last id completed a stop text of the request;
    `length`: the budget ran out."""
    policy_version: int
    """Number of weight updates that the sampling weights had seen."""

    def __post_init__(self) -> None:
        assert len(self.token_ids) == len(self.logprobs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One model request of one agent. An untrained agent's call keeps its text and has no tokens.

    Example: prompt_ids=(5, 6, 7), sampled_ids=(8, 2), logprobs=(-0.1, -0.7): two tokens to train on.
    """

    index: int
    """Order within the episode, from 0, over all agents."""
    agent_name: str
    target_tag: str
    trained: bool
    """Whether the policy spoke and its tokens are to be trained on."""
    messages: Sequence[Mapping[str, Any]]
    """The request as the agent program sent it, OpenAI format; for reading, not for training."""
    reply: str
    """The reply as text, special tokens included for the policy."""
    prompt_ids: tuple[int, ...] = ()
    sampled_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    """One per sampled id, from the engine."""
    finish_reason: FinishReason = "stop"
    policy_version: int = 0
    format_error: str | None = None
    """Why the reply could not be parsed or its arguments do not fit the tool's parameters; None if all is well."""
    unchecked: bool = False
    """Whether its arguments could not be checked: the schema of the tool's parameters cannot be followed."""
    reward: float = 0.0
    """What the workflow gave for this reply alone (`AjetTuner.add_reward`)."""
    grammar: str = ""
    """What the reply was sampled under (`ajet.chat.reply_grammar`), so that `logprobs` are those of its masked
    distributions; empty where sampling was free."""

    def __post_init__(self) -> None:
        assert len(self.sampled_ids) == len(self.logprobs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One run of a workflow on a task."""

    task: Task
    repeat: int
    """Which of the group's episodes this is, from 0."""
    status: EpisodeStatus
    rewards: Mapping[str, float]
    """Reward by agent name, trained agents only: what the episode as a whole gave it, plus the sum of its calls'
    rewards. Empty unless status is `ok` or `policy_error`."""
    agent_tags: Mapping[str, str]
    """target_tag by agent name of every trained agent, those that never spoke included."""
    calls: tuple[Call, ...]
    is_success: bool | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    log_metrics: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    """One line on what went wrong, for any status but `ok`."""
    num_attempts: int = 1
    """1 + the retries that it took."""
    duration_s: float = 0.0
    """Wall time of the last attempt, seconds."""
    num_context_overflows: int = 0
    """Requests that did not fit into the model's context."""
    num_undelivered_calls: int = 0
    """Requests whose reply was not received, as the client hung up, was cancelled or lost patience: no calls."""

    @property
    def uncalled_agents(self) -> tuple[str, ...]:
        """Names of the trained agents that were handed out and received no reply."""
        called = {call.agent_name for call in self.calls if call.trained}
        return tuple(name for name in self.agent_tags if name not in called)

    @property
    def usable(self) -> bool:
        """Whether the episode carries a reward and may be trained on."""
        return self.status in ("ok", "policy_error")

    def tag_rewards(self) -> dict[str, float]:
        """Reward by target_tag: the mean over the tag's trained agents, so an episode counts once a tag."""
        by_tag: dict[str, list[float]] = {}
        for name, reward in self.rewards.items():
            by_tag.setdefault(self.agent_tags[name], []).append(reward)
        return {tag: sum(rewards) / len(rewards) for tag, rewards in by_tag.items()}

    @property
    def score(self) -> float | None:
        """What the episode counts for in evaluations: success where the workflow said, else the mean over its tags'
        rewards; None of a lost episode, and of one without a trained agent."""
        if not self.usable:
            return None
        if self.is_success is not None:
            return float(self.is_success)
        rewards = self.tag_rewards()
        return fmean(rewards.values()) if rewards else None


CallKey = tuple[str, int, int]
"""A call among those of a step: (task_id, repeat, index of the call)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeGroup:
    """The episodes of one task in one step: what a baseline is computed over."""

    task: Task
    episodes: tuple[Episode, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRequest:
    """An episode that is to be played again with one thing changed (`ajet.rollout.replaying`); what comes of it is
    compared with the episode, and never trained on.

    Example: episode=…, replaced_tag="seer": an opponent decides for the seer. resampled_call=7: the call is drawn anew.
    """

    episode: Episode
    """A usable one."""
    replaced_tag: str | None = None
    """A trained role whose agents the opponent answers; None: one call is drawn anew."""
    resampled_call: int | None = None
    """Index in the episode of a trained call that is sampled anew, from the same prompt."""
    draw: int = 0
    """Which of several replays with the same change this is: each has randomness of its own."""

    @property
    def change(self) -> tuple[str | int, ...]:
        """What is changed, and which draw it is: no other replay of the episode has the same."""
        if self.resampled_call is None:
            return "tag", self.replaced_tag or "", self.draw
        return "call", self.resampled_call, self.draw


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What an episode came to when it was played again."""

    request: ReplayRequest
    episode: Episode
    """As it was played again: agents of the replaced role have rewards, and calls that are not trained."""
    is_reproduced: bool
    """Whether, up to what was changed, the workflow asked for all that it had asked for before."""
    num_given: int = 0
    """Calls that were answered from the record."""
    num_sampled_tokens: int = 0
    """What the other calls of engines sampled."""

    @property
    def usable(self) -> bool:
        """Whether it says what the change has changed."""
        return self.is_reproduced and self.episode.usable


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSample:
    """One row to train on: a prompt-and-sampled token sequence of one agent in one episode.

    Calls of one agent that extend each other token by token form one row with several sampled spans;
    others form rows of their own. How an episode is cut into rows changes no gradient.

    Example: ids (5, 6, 8, 2, 9, 4) with mask (0, 0, 1, 1, 0, 1) and calls (-1, -1, 0, 0, -1, 3): the
    episode's first call sampled (8, 2), the program appended 9, and its fourth call sampled (4).
    """

    episode_key: tuple[str, int]
    """(task_id, repeat)."""
    agent_name: str
    target_tag: str
    token_ids: tuple[int, ...]
    """T ids, oldest first."""
    loss_mask: tuple[bool, ...]
    """T flags: this id was sampled by the policy in this row."""
    logprobs: tuple[float, ...]
    """T values: log-probability at sampling time where the mask is set, else 0.0."""
    advantages: tuple[float, ...]
    """T values: the advantage of the token where the mask is set, else 0.0."""
    calls: tuple[int, ...]
    """T values: index in the episode of the call that sampled the token where the mask is set, else -1."""

    def __post_init__(self) -> None:
        assert len(self.token_ids) == len(self.loss_mask) == len(self.logprobs)
        assert len(self.token_ids) == len(self.advantages) == len(self.calls)
