"""Who speaks for each agent of one episode, and with which randomness.

In: the run's engines and opponent, one episode's identity. Out: a `ChatModel` an agent, all recording into the
episode's recorder. Built anew for every attempt.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from ajet.chat.recording import EpisodeRecorder
from ajet.chat.renderer import ChatRenderer, Conversation
from ajet.chat.types import ChatModel
from ajet.data.randomness import derive_rng, derive_seed
from ajet.engine.base import Engine
from ajet.errors import ConfigError
from ajet.rollout.agents.speakers import EngineSpeaker, RecordedSpeaker, SamplingSettings
from ajet.rollout.endpoint.bridge import LoopBridge

PlayerMaker = Callable[[str, str, random.Random], ChatModel]
"""(agent_name, target_tag, rng of this agent in this episode) -> an opponent's model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Voices:
    """What a run can speak with; shared by all its episodes."""

    policy_engine: Engine
    frozen_engine: Engine | None
    """The starting checkpoint, where `opponent=frozen`."""
    make_player: PlayerMaker | None
    """Scripted, random or remote opponents; None with `frozen` and `workflow`."""
    renderer: ChatRenderer
    sampling: SamplingSettings


@dataclass(slots=True, kw_only=True)
class EpisodeCast:
    """One attempt's agents. `key` (run seed, split, task, repeat, attempt) seeds them, each by its name."""

    voices: Voices
    recorder: EpisodeRecorder
    key: tuple[str | int, ...]
    trained_agents: dict[str, str] = field(default_factory=dict)
    """target_tag by name of the agents that the policy plays, as the workflow asked for them."""
    num_asked: Counter[str] = field(default_factory=Counter)
    """Models handed out by agent name."""
    _conversations: dict[tuple[str, str], Conversation] = field(default_factory=dict)
    """By agent name and target_tag: what an agent said is its own, however often a model is asked for."""

    def policy(self, agent_name: str, target_tag: str) -> ChatModel:
        """The model being trained.

        Raises:
            ConfigError: one agent name with two tags, whose rewards could not be told apart.
        """
        known = self.trained_agents.setdefault(agent_name, target_tag)
        if known != target_tag:
            raise ConfigError(
                f"Agent {agent_name!r} has the tags {known!r} and {target_tag!r}: give each its own agent_name."
            )
        return self._sampled(agent_name, target_tag, self.voices.policy_engine, trained=True)

    def opponent(self, agent_name: str, target_tag: str) -> ChatModel | None:
        """The configured opponent, or None."""
        if self.voices.frozen_engine is not None:
            return self._sampled(agent_name, target_tag, self.voices.frozen_engine, trained=False)
        if self.voices.make_player is None:
            return None
        player = self.voices.make_player(agent_name, target_tag, derive_rng(*self.key, *self._named(agent_name)))
        return RecordedSpeaker(
            player,
            agent_name=agent_name,
            target_tag=target_tag,
            recorder=self.recorder,
            conversation=self._conversation(agent_name, target_tag),
        )

    def _named(self, agent_name: str) -> tuple[str, int]:
        """The agent's name, and how many models were asked for under it: two of one name must not draw alike."""
        self.num_asked[agent_name] += 1
        return agent_name, self.num_asked[agent_name]

    def _conversation(self, agent_name: str, target_tag: str) -> Conversation:
        new = Conversation(agent_number=len(self._conversations))
        return self._conversations.setdefault((agent_name, target_tag), new)

    def _sampled(self, agent_name: str, target_tag: str, engine: Engine, *, trained: bool) -> ChatModel:
        return EngineSpeaker(
            agent_name=agent_name,
            target_tag=target_tag,
            trained=trained,
            engine=engine,
            renderer=self.voices.renderer,
            recorder=self.recorder,
            sampling=self.voices.sampling,
            seed=derive_seed(*self.key, *self._named(agent_name)),
            conversation=self._conversation(agent_name, target_tag),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgedCast:
    """The same cast, whose models may be asked from any loop and thread until the episode ends."""

    cast: EpisodeCast
    bridge: LoopBridge

    def policy(self, agent_name: str, target_tag: str) -> ChatModel:
        """See `EpisodeCast.policy`."""
        return self.bridge.bind(self.cast.policy(agent_name, target_tag))

    def opponent(self, agent_name: str, target_tag: str) -> ChatModel | None:
        """See `EpisodeCast.opponent`."""
        player = self.cast.opponent(agent_name, target_tag)
        return None if player is None else self.bridge.bind(player)
