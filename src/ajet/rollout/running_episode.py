"""An attempt at an episode while it runs: who its agents are, what they have said, and the calls that were recorded.

In: agents as models are handed out for them, calls as their replies are received (`agent_model`), rewards of replies.
Out: what `runner` makes an `Episode` of. Left out: how a request is answered.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from ajet.chat.renderer import Conversation
from ajet.data.randomness import derive_seed
from ajet.errors import ConfigError, EngineLostError, EpisodeOverError, WorkflowError
from ajet.records import Call
from ajet.rollout.answering import AnsweringLoop
from ajet.rollout.replaying import Drawing


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """Who asks. Two models that are handed out for one name are two of these, with seeds of their own.

    Example: name="Player3", target_tag="seer", trained=True.
    """

    name: str
    target_tag: str
    trained: bool
    """Whether the policy answers, so that its calls are trained on."""
    seed: int
    """Of this agent's randomness in this episode; each call derives its own from it."""

    @property
    def rng(self) -> random.Random:
        """A fresh generator for an opponent that answers this agent."""
        return random.Random(self.seed)


class RunningEpisode:
    """What becomes of one attempt at an episode while it runs: its agents, their conversations and calls.

    Lives on the rollout's loop, as engines and renderers do; requests from other loops and threads come there by
    `answers`.
    """

    def __init__(
        self,
        key: Sequence[str | int] = (),
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        on_call: Callable[[Call], None] = lambda call: None,
        drawing: Drawing | None = None,
    ) -> None:
        """`key` (run seed, stream, task, repeat, attempt) seeds the agents, each by its name; `loop` is the models'
        own, None where there is but one; `on_call` is told of each call as it is recorded; `drawing`: how engines'
        replies are drawn, None: afresh.
        """
        self.name = secrets.token_hex(8)
        """In addresses, of which each attempt has its own; never in anything that is recorded."""
        self.on_own_thread = False
        """Whether its program may block its thread."""
        self.answers = AnsweringLoop(loop)
        """Where its agents' requests are answered; closed when it is over."""
        self.agent_tags: dict[str, str] = {}
        """target_tag by name of the trained agents, those that never spoke included."""
        self.drawing = drawing or Drawing()
        """How engines' replies are drawn."""
        self.replaced_rewards: dict[str, float] = {}
        """What trained agents that an opponent answers, as in a replay, were given for replies, by their names."""
        self.context_overflows = 0
        """Requests whose prompt did not fit into the context."""
        self.lost_engine: EngineLostError | None = None
        """Why nothing is sampled any more, whatever the program makes of it."""
        self._key = tuple(key)
        self._on_call = on_call
        self._calls: list[Call] = []
        self._num_requests = self._num_refused = 0
        self._num_models: Counter[str] = Counter()
        self._conversations: dict[tuple[str, str], Conversation] = {}

    def agent(self, name: str, target_tag: str, *, trained: bool) -> Agent:
        """An agent of the episode, with a seed of its own: two models of one name must not draw alike.

        Raises:
            EpisodeOverError: it gets no more models.
            ConfigError: one trained agent with two tags, whose rewards could not be told apart.
        """
        if self.answers.is_closed:
            raise EpisodeOverError("The episode is over: it gets no more models.")
        known = self.agent_tags.setdefault(name, target_tag) if trained else target_tag
        if known != target_tag:
            raise ConfigError(
                f"Agent {name!r} has the tags {known!r} and {target_tag!r}: give each its own agent_name."
            )
        self._num_models[name] += 1
        if not trained or not self.drawing.replaces(target_tag):
            seed = derive_seed(*self._key, name, self._num_models[name])
            return Agent(name=name, target_tag=target_tag, trained=trained, seed=seed)
        self.replaced_rewards.setdefault(name, 0.0)
        # With the policy's own seed, a model with its weights would give the same reply again, not another one.
        seed = derive_seed(*self._key, name, self._num_models[name], *self.drawing.change)
        agent = Agent(name=name, target_tag=target_tag, trained=False, seed=seed)
        self.conversation(agent)  # numbered as it was, also where the workflow's own model answers
        return agent

    def conversation(self, agent: Agent) -> Conversation:
        """What the agent has said so far: its own, however often a model is asked for under its name."""
        new = Conversation(agent_number=len(self._conversations))
        return self._conversations.setdefault((agent.name, agent.target_tag), new)

    @property
    def calls(self) -> tuple[Call, ...]:
        """All calls so far, in the order in which their replies were received."""
        return tuple(self._calls)

    @property
    def undelivered_calls(self) -> int:
        """Requests whose reply was not received: cancelled, hung up on, or under way."""
        return self._num_requests - self._num_refused - len(self._calls)

    def add(self, call: Call) -> None:
        """Append a call, whose index becomes its place."""
        self._calls.append(replace(call, index=len(self._calls)))
        self._on_call(self._calls[-1])

    def add_reward(self, agent_name: str, value: float) -> None:
        """Add to the reward of an agent's latest reply, unless the agent is not trained. Call on the models' loop.

        Raises:
            WorkflowError: no agent has this name, or it has not received a reply yet.
        """
        if agent_name not in self._num_models:
            known = ", ".join(map(repr, self._num_models)) or "none yet"
            raise WorkflowError(f"add_reward: no agent is called {agent_name!r}; this episode has {known}.")
        if agent_name in self.replaced_rewards:
            self.replaced_rewards[agent_name] += value
            return
        if agent_name not in self.agent_tags:
            return
        for index, call in reversed(list(enumerate(self._calls))):
            if call.trained and call.agent_name == agent_name:
                self._calls[index] = replace(call, reward=call.reward + value)
                return
        raise WorkflowError(f"add_reward: agent {agent_name!r} has not received a reply yet that could be rewarded.")

    @contextmanager
    def request(self) -> Iterator[None]:
        """Around the work on one request. An error is an answer; a cancellation leaves none."""
        self._num_requests += 1
        try:
            yield
        except Exception:
            self._num_refused += 1
            raise
