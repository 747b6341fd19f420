"""What a workflow asks for models: for AgentScope, for the OpenAI SDK, or as a URL for anything else.

One tuner an episode. It decides by `target_tag` who answers an agent: the policy if the tag is trained, else the
configured opponent, else the workflow's own `debug_model`. Whatever the interface, what it hands out stands on an
`AgentModel`; the frameworks are loaded only when they are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, SupportsFloat

from ajet.errors import ConfigError, WorkflowError
from ajet.records import MOST_REWARD
from ajet.rollout.agent_model import AgentModel, ReplySource
from ajet.rollout.endpoint.endpoint import Endpoint
from ajet.rollout.endpoint.endpoint import OpenAIAddress as OpenAIAddress
from ajet.rollout.refusals import Refusals
from ajet.rollout.running_episode import Agent, RunningEpisode

if TYPE_CHECKING:
    from openai import AsyncOpenAI

DEFAULT_NAME = "agent"
"""Name and tag of an agent that the workflow does not name."""


class ContextTracker:
    """What became of the context's length in this episode so far."""

    def __init__(self, episode: RunningEpisode) -> None:
        """`episode` is read anew each time."""
        self._episode = episode

    @property
    def num_context_overflows(self) -> int:
        """Requests whose prompt did not fit."""
        return self._episode.context_overflows

    @property
    def context_overflow(self) -> bool:
        """Whether there was any."""
        return self.num_context_overflows > 0


class AjetTuner:
    """Hands out models in one episode of a workflow."""

    def __init__(
        self,
        *,
        config: Any,
        trainable_targets: list[str] | None,
        reply_source: Callable[[Agent], ReplySource | None],
        episode: RunningEpisode | None = None,
        endpoint: Endpoint | None = None,
        refusals: Refusals | None = None,
    ) -> None:
        """The runner's; tests and recipes that need no engine leave out the last three.

        Args:
            config: see the attribute.
            trainable_targets: None trains every agent.
            reply_source: who answers an agent; None leaves one that is not trained to the workflow's own model.
            episode: what the agents' calls are kept in.
            endpoint: where OpenAI's clients get their answers; None: a new one, with which nothing listens yet.
            refusals: what trained agents may not ask for; None: what cannot be trained on at temperature 1.
        """
        self.config = config
        """The whole resolved config by attributes (`ajet.config.view`), sections of the user's own included."""
        self.trainable_targets = trainable_targets
        self._reply_source = reply_source
        self._episode = episode or RunningEpisode()
        self._endpoint = endpoint or Endpoint()
        self._refusals = refusals or Refusals(temperature=1.0)

    def as_agentscope_model(
        self, agent_name: str | None = None, target_tag: str | None = None, debug_model: Any = None
    ) -> Any:
        """A model for an AgentScope agent (a `ChatModelBase`).

        Args:
            agent_name: names the agent in records; default `agent`.
            target_tag: its role; trained if among the trainable targets. Default: the agent's name.
            debug_model: answers while the role is not trained and the config names no opponent.

        Raises:
            ConfigError: the role is not trained and there is neither an opponent nor a debug_model.
        """
        model = self._model(agent_name, target_tag, has_own=debug_model is not None)
        return debug_model if model is None else _agentscope_model(model)

    def as_oai_baseurl_apikey(
        self, agent_name: str | None = None, target_tag: str | None = None, debug_model: Any = None
    ) -> OpenAIAddress:
        """A URL, a key and a model name for any OpenAI-compatible client, blocking ones included.

        The key is this agent's in this episode and ends with it. An episode that asks for a URL runs on a thread of its
        own, where it may block. Whether it asks is read from the workflow's code; where that cannot be seen, e.g.
        behind a registry of agents, the class says so: `own_thread: bool | None = True`.

        Args:
            agent_name: as for `as_agentscope_model`.
            target_tag: likewise.
            debug_model: answers while the role is not trained and the config names no opponent: an object with
                `base_url`, `api_key` and `model`, e.g. an `OpenAIAddress`. It is handed out as it is.

        Raises:
            ConfigError: as for `as_agentscope_model`; or debug_model has no address; or the server cannot start; or the
                episode runs on the rollout's loop, where a program that waits for its reply would hold up all others.
        """
        if not self._episode.on_own_thread:
            raise ConfigError(
                "as_oai_baseurl_apikey is for episodes on a thread of their own, as a program that waits for its reply "
                "would hold up all others. Nothing in the workflow's code said that it asks for a URL: write "
                "`own_thread: bool | None = True` in its class, or pass workflow.params.own_thread=true."
            )
        model = self._model(agent_name, target_tag, has_own=debug_model is not None)
        return OpenAIAddress.of_debug_model(debug_model) if model is None else self._endpoint.address(model)

    def as_raw_openai_sdk_client(
        self, agent_name: str | None = None, target_tag: str | None = None, debug_model: Any = None
    ) -> AsyncOpenAI:
        """An `openai.AsyncOpenAI` whose requests reach the model without leaving the process.

        `client.chat.completions.create(messages)` is enough: the model's name may be left out.

        Args:
            agent_name: as for `as_agentscope_model`.
            target_tag: likewise.
            debug_model: answers while the role is not trained and the config names no opponent: an `AsyncOpenAI`,
                handed out as it is, or an object with `base_url`, `api_key` and `model`, e.g. an `OpenAIAddress`.

        Raises:
            ConfigError: as for `as_agentscope_model`; or debug_model is neither.
        """
        from ajet.rollout.agents.openai_sdk import in_process_client, own_client  # loads the SDK, which takes a second

        model = self._model(agent_name, target_tag, has_own=debug_model is not None)
        return own_client(debug_model) if model is None else in_process_client(self._endpoint, model)

    def add_reward(self, value: SupportsFloat, agent_name: str | None = None) -> None:
        """Reward the reply that an agent has received last, e.g. once its move was judged.

        It counts as the agent's in any case: an agent's reward is the episode's (`WorkflowOutput.reward`) plus the sum
        of its calls'. Which of its calls a reward moves, `credit=` says: all of them alike, or the reply and those
        before it (`per_turn`). Several for one reply add up; a retry of the episode starts without any. For an agent
        that is not trained it does nothing, so that a workflow may reward all of its agents, whoever is trained.

        Args:
            value: a finite number.
            agent_name: as the model was asked for; default `agent`.

        Raises:
            WorkflowError: not a finite number; no agent of this name; or one that has not received a reply yet.
        """
        number = float(value) if isinstance(value, SupportsFloat) else math.nan
        if not math.isfinite(number) or abs(number) > MOST_REWARD:
            raise WorkflowError(f"add_reward: {value!r:.100} is not a finite number that a 32-bit float holds.")
        name = agent_name or DEFAULT_NAME
        self._episode.answers.call(lambda: self._episode.add_reward(name, number))

    def get_context_tracker(self) -> ContextTracker:
        """Whether a conversation of this episode has outgrown the model's context."""
        return ContextTracker(self._episode)

    def _model(self, agent_name: str | None, target_tag: str | None, *, has_own: bool) -> AgentModel | None:
        """The model that answers an agent; None: its own does."""
        name = agent_name or DEFAULT_NAME
        tag = target_tag or name
        is_trained = self.trainable_targets is None or tag in self.trainable_targets
        agent = self._episode.agent(name, tag, trained=is_trained)
        source = self._reply_source(agent)
        if source is not None:
            return AgentModel(agent, source, episode=self._episode, refusals=self._refusals)
        if not has_own:
            raise ConfigError(
                f"Agent {name!r} with target_tag {tag!r} is not trained and has no debug_model: choose an "
                "opponent (`--help` lists those of opponent=...), or train it too."
            )
        return None


def _agentscope_model(model: AgentModel) -> Any:
    """A model for AgentScope 1, which is loaded only where a workflow asks for one.

    Raises:
        ConfigError: another AgentScope is installed, one that is damaged, or none.
    """
    try:
        from ajet.rollout.agents.agentscope import AgentScopeModel
    except ImportError as error:
        found = version("agentscope")
        if found.startswith("1."):
            raise ConfigError(f"agentscope {found} is installed, and cannot be imported: {error}") from error
        raise ConfigError(
            f"as_agentscope_model speaks AgentScope 1 and agentscope {found} is installed: take as_oai_baseurl_apikey, "
            "which every version's OpenAIChatModel can be given (docs/agentscope.md)"
        ) from error
    return AgentScopeModel(model, name=model.agent.name)
