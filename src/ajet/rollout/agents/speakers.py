"""Who speaks for an agent: an engine with the policy's (or a frozen copy's) weights, or any other chat model.

In: chat requests of one agent in one episode. Out: replies; every call whose reply was received lands in the episode's
recorder, and only such a call is a turn of the agent's conversation.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from ajet.chat.delivery import on_delivery
from ajet.chat.recording import EpisodeRecorder
from ajet.chat.renderer import ChatRenderer, Conversation
from ajet.chat.types import ChatModel, ChatReply, ChatRequest
from ajet.data.randomness import derive_seed
from ajet.engine.base import Engine, SamplingRequest
from ajet.errors import ContextOverflowError, WorkflowError
from ajet.records import Completion

OVERFLOW_REPLY = ChatReply(
    content="[The conversation no longer fits into the model's context.]", finish_reason="length"
)
"""What an agent hears where `endpoint.on_overflow=reply`. Nothing was sampled, so it is no call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingSettings:
    """How the policy samples, from `rollout.*`."""

    temperature: float
    max_tokens: int
    """Most tokens of one reply."""
    reply_on_overflow: bool = False
    """Whether a conversation that outgrew the context gets `OVERFLOW_REPLY` instead of an error."""


class EngineSpeaker:
    """Speaks with an engine's weights. One object a model handed out; concurrent calls are fine."""

    def __init__(
        self,
        *,
        agent_name: str,
        target_tag: str,
        trained: bool,
        engine: Engine,
        renderer: ChatRenderer,
        recorder: EpisodeRecorder,
        sampling: SamplingSettings,
        seed: int,
        conversation: Conversation | None = None,
    ) -> None:
        """`seed` is this object's own: two that speak for one agent draw differently, and each call derives its own
        from it. `conversation` is the agent's, and whoever else speaks for it has the same one; None starts one.
        """
        self._agent_name = agent_name
        self._target_tag = target_tag
        self._trained = trained
        self._engine = engine
        self._renderer = renderer
        self._recorder = recorder
        self._sampling = sampling
        self._seed = seed
        self._conversation = conversation or Conversation()
        self._num_calls = 0

    async def chat(self, request: ChatRequest) -> ChatReply:
        """Sample a reply freely and parse it strictly.

        Raises:
            ContextOverflowError: the conversation outgrew the model's context, unless that gets a reply.
            EngineError: the engine failed.
        """
        try:
            return await self._reply(request)
        except ContextOverflowError:
            if not self._sampling.reply_on_overflow:
                raise
            return replace(OVERFLOW_REPLY, id=self._conversation.next_reply_id())

    async def _reply(self, request: ChatRequest) -> ChatReply:
        with self._recorder.request():
            prompt_ids, completion = await self._sample(request)
            said = Conversation()
            reply = self._renderer.finish(request, prompt_ids, completion.token_ids, said)

        def received() -> None:
            self._conversation.turns.extend(said.turns)
            self._recorder.add_sampled(
                agent_name=self._agent_name,
                target_tag=self._target_tag,
                trained=self._trained,
                messages=request.messages or [{"role": "user", "content": self._renderer.text(prompt_ids)}],
                reply=self._renderer.reply_text(completion.token_ids),
                prompt_ids=prompt_ids,
                completion=completion,
                format_error=reply.format_error,
                unchecked=reply.unchecked,
            )

        on_delivery(request.delivery, received)
        return ChatReply(
            id=self._conversation.next_reply_id(),
            content=reply.content,
            tool_calls=reply.tool_calls,
            finish_reason=completion.finish_reason,
            format_error=reply.format_error,
            num_prompt_tokens=len(prompt_ids),
            num_sampled_tokens=len(completion.token_ids),
            prompt_ids=prompt_ids,
            sampled_ids=completion.token_ids,
            logprobs=completion.logprobs,
            token_texts=self._renderer.token_texts(completion.token_ids) if request.with_token_texts else (),
        )

    async def _sample(self, request: ChatRequest) -> tuple[tuple[int, ...], Completion]:
        limit = self._sampling.max_tokens
        try:
            prompt_ids = self._renderer.prompt_ids(request, self._conversation, max_context=self._engine.max_context)
            completion = await self._engine.generate(
                SamplingRequest(
                    prompt_ids=prompt_ids,
                    max_tokens=limit if request.max_tokens is None else min(limit, request.max_tokens),
                    temperature=self._sampling.temperature,
                    seed=self._call_seed(request),
                    stop_ids=self._renderer.stop_ids,
                )
            )
        except ContextOverflowError:
            self._recorder.context_overflows += 1
            raise
        return prompt_ids, self._stopped(completion, request)

    def _call_seed(self, request: ChatRequest) -> int:
        """A seed of this call alone. A request's own seed counts within the episode: were it to fix the reply in all of
        them, a group's episodes would be one and there would be nothing to compare."""
        number = self._num_calls
        self._num_calls += 1
        return (
            derive_seed(self._seed, number) if request.seed is None else derive_seed(self._seed, "asked", request.seed)
        )

    def _stopped(self, completion: Completion, request: ChatRequest) -> Completion:
        """The completion up to the first stop text; ids behind it never happened."""
        num_ids = self._renderer.num_until_stop(completion.token_ids, request.stop)
        if num_ids is None:
            return completion
        return replace(
            completion,
            token_ids=completion.token_ids[:num_ids],
            logprobs=completion.logprobs[:num_ids],
            finish_reason="stop",
        )


class RecordedSpeaker:
    """Another chat model's calls, kept as text so that an episode can be read as a whole."""

    def __init__(
        self,
        model: ChatModel,
        *,
        agent_name: str,
        target_tag: str,
        recorder: EpisodeRecorder,
        conversation: Conversation | None = None,
    ) -> None:
        """`model` answers; the recorder listens; `conversation` is the agent's and numbers its replies."""
        self._model = model
        self._agent_name = agent_name
        self._target_tag = target_tag
        self._recorder = recorder
        self._conversation = conversation or Conversation()

    async def chat(self, request: ChatRequest) -> ChatReply:
        """Pass on the request and keep the reply.

        Raises:
            WorkflowError: a prompt of token ids, which only models of the engine can read.
        """
        if isinstance(request.prompt, tuple):
            raise WorkflowError(f"{self._target_tag} is played by a model without token ids: send the prompt as text.")
        with self._recorder.request():
            reply = await self._model.chat(replace(request, delivery=None))
            text = reply_as_text(reply)

        def received() -> None:
            self._recorder.add_text(
                agent_name=self._agent_name, target_tag=self._target_tag, messages=request.messages, reply=text
            )

        on_delivery(request.delivery, received)
        return replace(reply, id=self._conversation.next_reply_id())


def reply_as_text(reply: ChatReply) -> str:
    """A reply as the shipped model would write it: text, then each tool call in its tags."""
    calls = "".join(
        "<tool_call>"
        + json.dumps({"name": call.name, "arguments": json.loads(call.arguments)}, ensure_ascii=False)
        + "</tool_call>"
        for call in reply.tool_calls
    )
    return reply.content + calls
