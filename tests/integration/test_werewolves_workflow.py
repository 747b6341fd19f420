"""The workflow with real AgentScope agents: it plays the bare game, message by message, and bears bad players."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, SupportsFloat

import pytest
from pydantic import ValidationError

from ajet.chat.messages import assistant_message, plain_messages
from ajet.chat.types import ChatModel, ChatReply, ChatRequest, ToolCall
from ajet.config.root import Config
from ajet.errors import ConfigError, WorkflowError
from ajet.records import Task
from ajet.rollout.agents.agentscope import AgentScopeModel
from ajet.tuner import AjetTuner
from ajet.workflow import WorkflowOutput, WorkflowTask
from ajet.workflows.werewolves import prompts
from ajet.workflows.werewolves.agent_players import AgentPlayers, make_agent
from ajet.workflows.werewolves.bare import BarePlayers
from ajet.workflows.werewolves.game import deal_roles
from ajet.workflows.werewolves.workflow import Werewolves

PlayerMaker = Callable[[str, str, random.Random], ChatModel]


@dataclass
class Overheard:
    """A player whose requests and replies are kept."""

    player: ChatModel
    requests: list[ChatRequest] = field(default_factory=list)
    replies: list[ChatReply] = field(default_factory=list)

    async def chat(self, request: ChatRequest) -> ChatReply:
        self.requests.append(request)
        self.replies.append(await self.player.chat(request))
        return self.replies[-1]


def scripted(agent_name: str, target_tag: str, rng: random.Random) -> ChatModel:
    return Werewolves.scripted_player(agent_name=agent_name, target_tag=target_tag, rng=rng, params={"sense": 0.5})


@dataclass
class Players:
    """Everyone is played by what `make` makes, seeded by the game's name and the agent's."""

    key: str
    make: PlayerMaker = scripted
    players: dict[str, Overheard] = field(default_factory=dict)

    def player(self, agent_name: str, target_tag: str) -> ChatModel:
        rng = random.Random(f"{self.key}/{agent_name}")
        self.players[agent_name] = Overheard(self.make(agent_name, target_tag, rng))
        return self.players[agent_name]


async def play(
    number: int, cast: Players, *, tuner_class: type[AjetTuner] = AjetTuner, **params: Any
) -> WorkflowOutput:
    workflow = Werewolves(**{"trainable_targets": ["seer", "witch"], **params})
    tuner = tuner_class(
        config=Config(),
        trainable_targets=workflow.trainable_targets,
        reply_source=lambda agent: cast.player(agent.name, agent.target_tag),
    )
    task = Task(task_id=f"game-{number}", metadata={"random_number": number})
    return await workflow.execute(WorkflowTask(task=task), tuner)


async def play_bare(number: int, cast: Players) -> Any:
    workflow = Werewolves(trainable_targets=["seer", "witch"])
    roles = deal_roles(workflow.role_counts(), number)
    seats = range(len(roles))
    players = [cast.player(prompts.player_name(seat), roles[seat]) for seat in seats]
    table = BarePlayers(players, [prompts.system_prompt(seat, roles) for seat in seats])
    return table, await workflow.moderator(roles, table, number).play()


def test_agents_and_bare_models_play_the_same_twenty_games() -> None:
    for number in range(20):
        cast, bare_cast = Players(key=str(number)), Players(key=str(number))
        output = asyncio.run(play(number, cast))
        table, report = asyncio.run(play_bare(number, bare_cast))
        assert output.metadata["events"] == list(report.events)
        assert output.log_metrics == report.metrics
        assert output.reward == float(report.winner == "good") and output.is_success == (report.winner == "good")
        for seat, player in enumerate(table.players):
            overheard = cast.players[prompts.player_name(seat)]
            # Who dies in the first night is never asked.
            last = plain_messages(overheard.requests[-1].messages) if overheard.requests else []
            assert last == player.messages[: len(last)]
            bare = bare_cast.players[prompts.player_name(seat)].requests
            asked = [request.tools[0]["function"]["parameters"] for request in overheard.requests]
            assert [properties(schema) for schema in asked] == [
                properties(request.tools[0]["function"]["parameters"]) for request in bare
            ]


def properties(schema: Any) -> dict[str, dict[str, Any]]:
    """A schema's fields without titles, which AgentScope takes away."""
    fields = schema["properties"].items()
    return {name: {key: value for key, value in part.items() if key != "title"} for name, part in fields}


def test_each_request_extends_the_last_one_and_its_reply() -> None:
    cast = Players(key="0")
    asyncio.run(play(0, cast))
    num_pairs = 0
    for player in cast.players.values():
        for i, (request, reply) in enumerate(zip(player.requests, player.replies, strict=True)):
            if i + 1 < len(player.requests):
                so_far = [*plain_messages(request.messages), assistant_message(reply.content, reply.tool_calls)]
                assert plain_messages(player.requests[i + 1].messages)[: len(so_far)] == so_far
                num_pairs += 1
    assert num_pairs > 30


def test_concurrent_games_of_one_seed_share_roles_and_do_not_meet() -> None:
    async def all_at_once() -> list[WorkflowOutput]:
        return list(await asyncio.gather(*[play(5, Players(key=key)) for key in ("a", "b", "a")]))

    first, second, again = asyncio.run(all_at_once())
    assert first.metadata["roles"] == second.metadata["roles"]
    assert first.metadata["events"] != second.metadata["events"]
    assert first == again


class Garbler:
    """Says nothing that can be used, in a way that changes from call to call."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    async def chat(self, request: ChatRequest) -> ChatReply:
        calls: list[tuple[ToolCall, ...]] = [
            (),
            (ToolCall(name="generate_response", arguments='{"target": "Player77"}'),),
            (ToolCall(name="generate_response", arguments="{}"),),
            (ToolCall(name="generate_response", arguments='{"say": 3, "save": "perhaps"}'),),
        ]
        return ChatReply(content=self.rng.choice(["Hm.", ""]), tool_calls=self.rng.choice(calls))


def test_a_player_who_never_gives_a_usable_reply_costs_default_moves_and_no_crash() -> None:
    def make(agent_name: str, target_tag: str, rng: random.Random) -> ChatModel:
        return Garbler(rng) if target_tag in ("seer", "werewolf") else scripted(agent_name, target_tag, rng)

    output = asyncio.run(play(3, Players(key="3", make=make), day_limit=2))
    assert output.metadata["winner"] in ("good", "werewolves")
    assert output.log_metrics["default_move_seer"] == 1.0 and output.log_metrics["default_move_villager"] == 0.0
    assert output.log_metrics["extra_calls"] > 0


class Sloppy:
    """Plays as scripted, save for replies that cannot be used."""

    def __init__(self, player: ChatModel, rng: random.Random) -> None:
        self.player, self.garbler, self.rng = player, Garbler(rng), rng

    async def chat(self, request: ChatRequest) -> ChatReply:
        return await (self.garbler if self.rng.random() < 0.3 else self.player).chat(request)


@pytest.mark.parametrize("number", range(4))
def test_agents_send_what_agentscopes_own_memory_and_formatter_would_send(number: int) -> None:
    # Importable once ajet has been imported.
    from agentscope.formatter import OpenAIMultiAgentFormatter
    from agentscope.memory import InMemoryMemory

    def make(agent_name: str, target_tag: str, rng: random.Random) -> ChatModel:
        return Sloppy(scripted(agent_name, target_tag, rng), rng)

    async def play_with(cast: Players, *, agentscopes_own: bool) -> list[Any]:
        workflow = Werewolves(trainable_targets=["seer"])
        roles = deal_roles(workflow.role_counts(), number)
        agents = []
        for seat, role in enumerate(roles):
            name = prompts.player_name(seat)
            model = AgentScopeModel(cast.player(name, role), name=name)
            agent = make_agent(name, prompts.system_prompt(seat, roles), model, max_iters=3)
            if agentscopes_own:
                agent.memory = InMemoryMemory()
                agent.formatter = OpenAIMultiAgentFormatter(conversation_history_prompt="")
            agents.append(agent)
        await workflow.moderator(roles, AgentPlayers(agents), number).play()
        return [plain_messages(request.messages) for player in cast.players.values() for request in player.requests]

    ours = asyncio.run(play_with(Players(key=str(number), make=make), agentscopes_own=False))
    own = asyncio.run(play_with(Players(key=str(number), make=make), agentscopes_own=True))
    assert len(ours) > 20 and ours == own


class Wordless:
    """Plays as scripted without a word beside the tool call."""

    def __init__(self, player: ChatModel) -> None:
        self.player = player

    async def chat(self, request: ChatRequest) -> ChatReply:
        reply = await self.player.chat(request)
        return ChatReply(content="" if reply.tool_calls else "Done.", tool_calls=reply.tool_calls)


def test_a_player_without_words_decides_all_the_same_with_one_more_call() -> None:
    def make(agent_name: str, target_tag: str, rng: random.Random) -> ChatModel:
        return Wordless(scripted(agent_name, target_tag, rng))

    output = asyncio.run(play(3, Players(key="3", make=make)))
    assert output.log_metrics["default_moves"] == 0
    assert output.log_metrics["extra_calls"] == output.log_metrics["decisions"]


class Speaker:
    """Plays as scripted, and adds words where it may."""

    def __init__(self, player: ChatModel) -> None:
        self.player = player

    async def chat(self, request: ChatRequest) -> ChatReply:
        reply = await self.player.chat(request)
        call = reply.tool_calls[0]
        arguments = call.arguments.replace('"words": ""', '"words": "Trust me."')
        return ChatReply(content=reply.content, tool_calls=(ToolCall(name=call.name, arguments=arguments),))


def test_free_speech_is_heard_by_the_others() -> None:
    def make(agent_name: str, target_tag: str, rng: random.Random) -> ChatModel:
        return Speaker(scripted(agent_name, target_tag, rng))

    cast = Players(key="3", make=make)
    output = asyncio.run(play(3, cast, free_speech=True, explain_rules=True))
    assert output.log_metrics["default_moves"] == 0
    said = [line for line in output.metadata["events"] if "Trust me." in line]
    assert said and all(": I " in line for line in said)
    assert "Good wins" in str(cast.players["Player1"].requests[0].messages[0]["content"])


def test_a_vote_against_the_other_side_is_rewarded_as_it_is_given() -> None:
    cast = Players(key="3")
    rewarded: list[tuple[str, str, float]] = []

    class Listening(AjetTuner):
        def add_reward(self, value: SupportsFloat, agent_name: str | None = None) -> None:
            super().add_reward(value, agent_name=agent_name)
            assert agent_name is not None
            (called,) = cast.players[agent_name].replies[-1].tool_calls
            rewarded.append((agent_name, json.loads(called.arguments)["target"], float(value)))

    output = asyncio.run(play(3, cast, tuner_class=Listening, vote_reward=0.25))
    roles = output.metadata["roles"]
    ballots = [event for event in output.metadata["events"] if event.startswith("Votes: ")]
    votes = [vote for event in ballots for vote in re.findall(r"(Player\d) for (Player\d)", event)]
    against = [(a, b, 0.25) for a, b in votes if (roles[a] == "werewolf") != (roles[b] == "werewolf")]
    assert rewarded == against and 0 < len(against) < len(votes)
    assert output.reward in (0.0, 1.0)
    unrewarded = asyncio.run(play(3, Players(key="3")))
    assert unrewarded.metadata["events"] == output.metadata["events"]


def test_cancelling_an_episode_ends_it() -> None:
    class Stuck:
        async def chat(self, request: ChatRequest) -> ChatReply:
            await asyncio.sleep(60)
            raise AssertionError("unreachable")

    async def impatient() -> None:
        async with asyncio.timeout(0.05):
            await play(0, Players(key="0", make=lambda agent_name, target_tag, rng: Stuck()))

    with pytest.raises(TimeoutError):
        asyncio.run(impatient())


def test_an_error_of_a_model_is_not_swallowed() -> None:
    class Broken:
        async def chat(self, request: ChatRequest) -> ChatReply:
            raise WorkflowError("no more tokens")

    with pytest.raises(WorkflowError, match="no more tokens"):
        asyncio.run(play(0, Players(key="0", make=lambda agent_name, target_tag, rng: Broken())))


def test_small_tables_play_and_the_wolves_can_be_the_trained_side() -> None:
    small: dict[str, Any] = {
        "num_werewolves": 2,
        "num_villagers": 2,
        "has_hunter": False,
        "trainable_targets": ["werewolf"],
    }
    output = asyncio.run(play(2, Players(key="2"), **small))
    assert sorted(output.metadata["roles"].values()) == [
        "seer",
        "villager",
        "villager",
        "werewolf",
        "werewolf",
        "witch",
    ]
    assert output.reward == float(output.metadata["winner"] == "werewolves")


@pytest.mark.parametrize(
    ("params", "error", "reason"),
    [
        ({"trainable_targets": None}, ConfigError, "opposing sides"),
        ({"trainable_targets": ["werewolf", "witch"]}, ConfigError, "opposing sides"),
        ({"trainable_targets": ["hunter"], "has_hunter": False}, ConfigError, "has no hunter"),
        ({"trainable_targets": ["seer"], "num_werewolves": 6}, ValidationError, "fewer of them"),
        ({"trainable_targets": ["seer"], "day_limit": 0}, ValidationError, "day_limit"),
    ],
)
def test_a_table_that_cannot_work_is_refused_at_once(
    params: dict[str, Any], error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        Werewolves(**params)


def test_a_task_without_a_number_is_refused() -> None:
    workflow = Werewolves(trainable_targets=["seer"])
    tuner = AjetTuner(
        config=Config(),
        trainable_targets=["seer"],
        reply_source=lambda agent: Players(key="").player(agent.name, agent.target_tag),
    )
    with pytest.raises(WorkflowError, match="random_number"):
        asyncio.run(workflow.execute(WorkflowTask(task=Task(task_id="t")), tuner))
