"""One attempt's ways to its models: URLs with keys, OpenAI SDK clients, AgentScope's; all end with the episode.

A program with a URL may block its thread while it waits for a reply, and everything else of the run, engine
included, lives on the rollout's thread. So whoever asks for a URL there is begun again on a thread of its own, and
from then on every episode of the run starts on one. In-process clients need none and stay on the rollout's loop.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ajet.chat.types import ChatModel, ChatReply, ChatRequest
from ajet.errors import EpisodeOverError, WorkflowError
from ajet.rollout.endpoint.api_error import ApiError
from ajet.rollout.endpoint.endpoint import Endpoint
from ajet.rollout.endpoint.refusals import Refusals
from ajet.rollout.endpoint.sessions import Session
from ajet.tuner import OpenAIAddress

if TYPE_CHECKING:
    from openai import AsyncOpenAI


class NeedsOwnThread(BaseException):
    """Ends an attempt on the rollout's loop. Not an `Exception`: a program's own handlers must let it through."""


@dataclass(slots=True, kw_only=True)
class ThreadUse:
    """What a run has learnt about its workflow."""

    own: bool = False
    """Whether episodes run on threads of their own."""


@dataclass(slots=True, kw_only=True)
class EpisodeGateway:
    """Hands out keys and clients in one attempt."""

    endpoint: Endpoint
    temperature: float
    """What the policy samples at."""
    max_context: int
    """Most tokens that an engine of the run reads."""
    on_own_thread: bool
    wants_thread: bool = False
    """Whether the program asked for a URL where it must not block."""
    _name: str = field(default_factory=lambda: secrets.token_hex(8))
    _keys: list[str] = field(default_factory=list)
    _over: bool = False

    def require_thread(self) -> None:
        """Make sure that the program may block.

        Raises:
            NeedsOwnThread: it is on the rollout's loop and has to begin again.
        """
        if not self.on_own_thread:
            self.wants_thread = True
            raise NeedsOwnThread

    def checked(self, model: ChatModel, *, agent_name: str, target_tag: str, trained: bool) -> ChatModel:
        """The model, refusing in process what it refuses behind a URL."""
        return _Checked(self._session(model, agent_name, target_tag, trained), self.endpoint.refusals)

    def address(self, model: ChatModel, *, agent_name: str, target_tag: str, trained: bool) -> OpenAIAddress:
        """A URL and a key of this model; starts the server if need be."""
        base_url = self.endpoint.base_url(self._name)
        key, session = self._open(model, agent_name, target_tag, trained)
        return OpenAIAddress(base_url=base_url, api_key=key, model=session.model_name)

    def sdk_client(self, model: ChatModel, *, agent_name: str, target_tag: str, trained: bool) -> AsyncOpenAI:
        """A client whose requests never leave the process."""
        from ajet.rollout.agents.openai_sdk import in_process_client

        key, session = self._open(model, agent_name, target_tag, trained)
        return in_process_client(self.endpoint.handler, api_key=key, model=session.model_name)

    def own_client(self, debug_model: Any) -> AsyncOpenAI:
        """The workflow's own model as a client."""
        from ajet.rollout.agents.openai_sdk import own_client

        return own_client(debug_model)

    def close(self) -> None:
        """End every key; a program that was left behind gets no further ones."""
        self._over = True
        self.endpoint.sessions.close(self._keys)

    def _open(self, model: ChatModel, agent_name: str, target_tag: str, trained: bool) -> tuple[str, Session]:
        if self._over:
            raise EpisodeOverError("The episode is over: it gets no more models.")
        session = self._session(model, agent_name, target_tag, trained)
        key = self.endpoint.sessions.open(session)
        self._keys.append(key)
        return key, session

    def _session(self, model: ChatModel, agent_name: str, target_tag: str, trained: bool) -> Session:
        return Session(
            agent_name=agent_name,
            target_tag=target_tag,
            trained=trained,
            temperature=self.temperature,
            model=model,
            max_context=self.max_context,
            episode=self._name,
        )


@dataclass(frozen=True, slots=True)
class _Checked:
    session: Session
    refusals: Refusals

    async def chat(self, request: ChatRequest) -> ChatReply:
        try:
            self.refusals.check(request.settings, self.session)
        except ApiError as error:
            raise WorkflowError(str(error)) from error
        return await self.session.model.chat(request)
