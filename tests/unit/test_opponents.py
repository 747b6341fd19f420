"""Random players are legal whatever the schema; remote ones ask and read in OpenAI's words."""

from __future__ import annotations

import asyncio
import json
import random
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from tests.episodes import agent_model

from ajet.chat.types import ChatReply, ChatRequest, NamedTool, ToolCall
from ajet.config.compose import compose
from ajet.errors import ConfigError, OpponentError
from ajet.rollout.agents.openai_sdk import in_process_client
from ajet.rollout.endpoint.endpoint import Endpoint
from ajet.rollout.opponents.openai import OpenAIConfig, OpenAIPlayer
from ajet.rollout.opponents.random import RandomPlayer
from ajet.rollout.opponents.scripted import ScriptedPlayersConfig
from ajet.rollout.running_episode import Agent
from ajet.tuner import AjetTuner
from ajet.workflow import Workflow, WorkflowOutput, WorkflowTask

OWN = """
from functools import wraps
from ajet.chat.types import ChatReply, ToolCall

class Plain:
    def __init__(self, config): ...
    def chat(self, request):
        return ChatReply(content="yes")

def logged(function):
    @wraps(function)
    def asking(*given):
        return function(*given)
    return asking

class Speaks:
    said = ChatReply(content="yes")
    def __init__(self, config, *, agent_name): ...
    @logged
    async def chat(self, request):
        return self.said

class Text(Speaks):
    said = "yes"

class Nothing(Speaks):
    said = None

class NoText(Speaks):
    said = ChatReply(content=None)

class Mapping(Speaks):
    said = ChatReply(content="", tool_calls=({"name": "move"},))
"""


def asked(file: Path, name: str) -> ChatReply:
    """What an opponent of the user's answers in a run that chooses it."""
    file.write_text(OWN)
    overrides = ["workflow=signals", "trainable_targets=[speaker]", f"opponent={file}->{name}"]
    player = compose(overrides, run_dir=file.parent).opponent.build(workflow=Scripted)(LISTENER)
    assert player is not None
    return asyncio.run(player.chat(ChatRequest(messages=[])))


LISTENER = Agent(name="Listener", target_tag="listener", trained=False, seed=0)


@pytest.mark.parametrize(
    ("name", "returned"),
    [
        ("Text", "'yes' (str)"),
        ("Nothing", "None (NoneType)"),
        ("NoText", "a ChatReply whose content is None (NoneType)"),
        ("Mapping", "a ChatReply with tool_calls ({'name': 'move'},), which are not all ajet.chat.types.ToolCall"),
    ],
)
def test_an_opponent_of_ones_own_that_gives_no_reply_is_named_with_what_it_gave(
    name: str, returned: str, tmp_path: Path
) -> None:
    file = tmp_path / "mine.py"
    with pytest.raises(OpponentError) as error:
        asked(file, name)
    assert str(error.value).startswith(
        f"opponent={file}->{name}: chat returned {returned}; it must return an ajet.chat.types.ChatReply"
    )


def test_an_opponent_that_is_not_awaited_is_refused_as_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="chat of Plain is not async, and it is awaited: write async def chat"):
        asked(tmp_path / "mine.py", "Plain")
    assert asked(tmp_path / "mine.py", "Speaks").content == "yes"


class Scripted(Workflow):
    """One whose players answer in texts."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        return WorkflowOutput(reward=0.0)

    @classmethod
    def scripted_player(cls, **asked: Any) -> Any:
        class Texts:
            async def chat(self, request: ChatRequest) -> str:
                return "yes"

        return Texts()


def test_a_scripted_player_that_gives_no_reply_is_named_with_its_workflow() -> None:
    player = ScriptedPlayersConfig().build(workflow=Scripted)(LISTENER)
    assert player is not None
    words = "Texts, a scripted player of Scripted: chat returned 'yes' "
    with pytest.raises(OpponentError, match=words):
        asyncio.run(player.chat(ChatRequest(messages=[])))


class Mood(Enum):
    GOOD = "good"
    BAD = "bad"


class Move(BaseModel):
    target: Literal["Player1", "Player2"]
    save: bool
    mood: Mood
    count: int = Field(ge=2, le=4)
    share: float = Field(ge=0, le=1)
    poison: Literal["Player1"] | None
    words: list[str] = Field(max_length=2)


TOOL = {"type": "function", "function": {"name": "move", "parameters": Move.model_json_schema()}}


@given(st.integers(0, 10_000))
def test_a_random_reply_fits_the_schema(seed: int) -> None:
    request = ChatRequest(messages=[], tools=[TOOL], tool_choice="required")
    reply = asyncio.run(RandomPlayer(random.Random(seed)).chat(request))
    Move.model_validate(json.loads(reply.tool_calls[0].arguments))
    assert reply.content


def test_no_tool_is_called_where_none_is_allowed() -> None:
    request = ChatRequest(messages=[], tools=[TOOL], tool_choice="none")
    assert not asyncio.run(RandomPlayer(random.Random(0)).chat(request)).tool_calls


def test_every_choice_is_met_in_time() -> None:
    player = RandomPlayer(random.Random(1))
    request = ChatRequest(messages=[], tools=[TOOL], tool_choice=NamedTool("move"))
    moves = [Move.model_validate_json(asyncio.run(player.chat(request)).tool_calls[0].arguments) for _ in range(60)]
    assert {move.target for move in moves} == {"Player1", "Player2"} and {move.save for move in moves} == {True, False}
    assert {move.count for move in moves} == {2, 3, 4} and {move.poison for move in moves} == {None, "Player1"}


class Remote:
    """A server's model: keeps the request and makes one call."""

    request: ChatRequest

    async def chat(self, request: ChatRequest) -> ChatReply:
        self.request = request
        return ChatReply(content="I move.", tool_calls=(ToolCall(name="move", arguments='{"target": "Player1"}'),))


def test_a_remote_player_passes_on_what_the_agent_asked_for() -> None:
    remote = Remote()
    client = in_process_client(Endpoint(), agent_model(remote, trained=False))
    player = OpenAIPlayer(OpenAIConfig(model="remote", temperature=0.3, max_tokens=None), client)
    asked = ChatRequest(
        messages=[{"role": "user", "content": "Move."}],
        tools=[TOOL],
        tool_choice=NamedTool("move"),
        stop=["."],
        seed=4,
        max_tokens=7,
    )
    reply = asyncio.run(player.chat(asked))
    assert reply.content == "I move." and [call.name for call in reply.tool_calls] == ["move"]
    received = remote.request
    assert (received.tool_choice, received.stop, received.seed, received.max_tokens) == (
        NamedTool("move"),
        (".",),
        4,
        7,
    )
    assert list(received.tools) == [TOOL] and list(received.messages) == list(asked.messages)
