"""One agent's model calls in one episode, from the request to the recorded call.

    request ──▶ refused? ──▶ onto the rollout's loop ──▶ prompt ids ──▶ engine ──▶ reply ──▶ received? ──▶ Call

In: chat requests, on any event loop and thread. Out: replies; every call whose reply was received lands in its
`RunningEpisode`, and only such a call is a turn of the agent's conversation. Opponents are answered the same way from
another source. Left out: the interfaces by which programs send requests (`agents`, `endpoint`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ajet.chat.renderer import ChatRenderer, Conversation, RecordedTurn
from ajet.chat.reply_grammar import reply_grammar
from ajet.chat.tool_calls import reply_as_text
from ajet.chat.types import ChatModel, ChatReply, ChatRequest
from ajet.data.randomness import derive_seed
from ajet.engine.base import Engine, SamplingRequest
from ajet.errors import ContextOverflowError, EngineLostError, WorkflowError
from ajet.records import Call, Completion
from ajet.rollout.refusals import Refusals
from ajet.rollout.running_episode import Agent, RunningEpisode

OVERFLOW_REPLY = ChatReply(
    content="[The conversation no longer fits into the model's context.]", finish_reason="length"
)
"""What an agent hears where `endpoint.on_overflow=reply`. Nothing was sampled, so it is not a call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReplies:
    """Replies sampled with an engine's weights: the policy's, or a frozen copy's. Shared by all agents of a run."""

    engine: Engine
    renderer: ChatRenderer
    temperature: float
    """`rollout.temperature`."""
    max_tokens: int
    """`rollout.max_tokens`: most tokens of one reply."""
    is_starting_model: bool = False
    """Whether the engine is asked for the starting model's replies, beside the policy's."""
    reply_on_overflow: bool = False
    """Whether a conversation that outgrew the context gets `OVERFLOW_REPLY` instead of an error."""
    under_grammar: bool = False
    """Whether replies are sampled under the grammar of what can be parsed: `rollout.grammar=tools`."""

    def grammar(self, request: ChatRequest) -> str:
        """What the reply is sampled under; empty where sampling is free."""
        return reply_grammar(request) if self.under_grammar else ""

    async def sample(self, prompt_ids: tuple[int, ...], request: ChatRequest, seed: int) -> Completion:
        """What was sampled behind the prompt, up to the first stop text.

        Raises:
            ContextOverflowError: the prompt does not fit.
            EngineError: the engine failed.
        """
        sampled = await self.engine.generate(
            SamplingRequest(
                prompt_ids=prompt_ids,
                max_tokens=self.max_tokens if request.max_tokens is None else min(self.max_tokens, request.max_tokens),
                temperature=self.temperature,
                seed=seed,
                stop_ids=self.renderer.stop_ids,
                by_starting_model=self.is_starting_model,
                grammar=self.grammar(request),
            )
        )
        return self.renderer.until_stop(sampled, request.stop)


ReplySource = EngineReplies | ChatModel
"""Where an agent's replies come from. A bare `ChatModel` is an opponent: scripted, random or remote."""


class AgentModel:
    """Answers one agent's requests; what a tuner hands to every interface. A `ChatModel`, for any loop and thread."""

    def __init__(self, agent: Agent, source: ReplySource, *, episode: RunningEpisode, refusals: Refusals) -> None:
        """`refusals`: what a trained agent may not ask for."""
        self.agent = agent
        self.episode = episode
        self._source = source
        self._refusals = refusals
        self._conversation = episode.conversation(agent)
        self._num_calls = 0

    @property
    def max_context(self) -> int:
        """Most token ids that a raw prompt may hold; 0 where only text is read."""
        return self._source.engine.max_context if isinstance(self._source, EngineReplies) else 0

    async def chat(self, request: ChatRequest) -> ChatReply:
        """Sample a reply, freely or under its grammar, and parse it strictly; or ask the agent's opponent.

        Raises:
            UnsupportedSettingError: a trained agent asked for what would change the sampled distribution.
            WorkflowError: messages that cannot be rendered, or token ids for an opponent without any.
            ContextOverflowError: the conversation outgrew the model's context, unless that gets a reply.
            EngineError: the engine failed.
            EpisodeOverError: the episode ended first.
        """
        if self.agent.trained:
            self._refusals.check(request.settings, self.agent.target_tag)
        return await self.episode.answers.answer(self._answer, request)

    async def _answer(self, request: ChatRequest) -> ChatReply:
        """On the models' loop."""
        if not isinstance(self._source, EngineReplies):
            return await self._ask_opponent(self._source, request)
        try:
            return await self._sample(self._source, request)
        except ContextOverflowError:
            self.episode.context_overflows += 1
            if not self._source.reply_on_overflow:
                raise
            return replace(OVERFLOW_REPLY, id=self._conversation.next_reply_id())

    async def _sample(self, source: EngineReplies, request: ChatRequest) -> ChatReply:
        renderer, said = source.renderer, Conversation()
        with self.episode.request():
            prompt_ids = renderer.prompt_ids(request, self._conversation, max_context=source.engine.max_context)
            try:
                sampled = await self.episode.drawing.reply(
                    (self.agent.name, self.agent.target_tag),
                    prompt_ids,
                    self._call_seed(request),
                    lambda seed: source.sample(prompt_ids, request, seed),
                )
            except EngineLostError as lost:
                self.episode.lost_engine = lost
                raise
            reply = renderer.finish(request, prompt_ids, sampled.token_ids, said)
        call = Call(
            index=0,
            agent_name=self.agent.name,
            target_tag=self.agent.target_tag,
            trained=self.agent.trained,
            messages=request.messages or [{"role": "user", "content": renderer.text(prompt_ids)}],
            reply=renderer.reply_text(sampled.token_ids),
            prompt_ids=prompt_ids,
            sampled_ids=sampled.token_ids,
            logprobs=sampled.logprobs,
            finish_reason=sampled.finish_reason,
            policy_version=sampled.policy_version,
            format_error=reply.format_error,
            unchecked=reply.unchecked,
            grammar=source.grammar(request),
        )
        self._when_received(request, call, said.turns)
        return ChatReply(
            id=self._conversation.next_reply_id(),
            content=reply.content,
            tool_calls=reply.tool_calls,
            finish_reason=sampled.finish_reason,
            format_error=reply.format_error,
            num_prompt_tokens=len(prompt_ids),
            num_sampled_tokens=len(sampled.token_ids),
            prompt_ids=prompt_ids,
            sampled_ids=sampled.token_ids,
            logprobs=sampled.logprobs,
            token_texts=renderer.token_texts(sampled.token_ids) if request.with_token_texts else (),
        )

    async def _ask_opponent(self, opponent: ChatModel, request: ChatRequest) -> ChatReply:
        if isinstance(request.prompt, tuple):
            raise WorkflowError(
                f"{self.agent.target_tag} is played by a model without token ids: send the prompt as text."
            )
        with self.episode.request():
            reply = await opponent.chat(replace(request, delivery=None))
            text = reply_as_text(reply)
        call = Call(
            index=0,
            agent_name=self.agent.name,
            target_tag=self.agent.target_tag,
            trained=False,
            messages=request.messages,
            reply=text,
        )
        self._when_received(request, call, [])
        return replace(reply, id=self._conversation.next_reply_id())

    def _when_received(self, request: ChatRequest, call: Call, turns: Sequence[RecordedTurn]) -> None:
        """Record the call once its program has the reply: one that was not received never happened."""

        def received() -> None:
            self._conversation.turns.extend(turns)
            self.episode.add(call)

        if request.delivery is None:
            received()
        else:
            request.delivery.when_received(received)

    def _call_seed(self, request: ChatRequest) -> int:
        """A seed of this call alone. A request's own seed counts within the episode: were it to fix the reply in all of
        them, a group's episodes would be one and there would be nothing to compare."""
        number = self._num_calls
        self._num_calls += 1
        if request.seed is None:
            return derive_seed(self.agent.seed, number)
        return derive_seed(self.agent.seed, "asked", request.seed)
