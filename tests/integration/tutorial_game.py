"""A game of werewolves as other people's programs lead one: AgentScope agents in hubs and pipelines, nothing of ajet's
but the rules.

It gives a workflow of the tutorial's shape the three names that it imports. Every player speaks at least once: the
first night's dead leave a word, everyone else talks by day.
"""

from __future__ import annotations

from typing import Any, Literal

from agentscope.agent import ReActAgent
from agentscope.message import Msg
from agentscope.pipeline import MsgHub, fanout_pipeline, sequential_pipeline
from pydantic import BaseModel, create_model

from ajet.workflows.werewolves.game import Death, Game, most_voted

DAYS = 2


class BadGuyException(Exception):
    """The werewolves left the game unplayable."""


class Potions(BaseModel):
    save: bool
    poison: Literal["nobody", "somebody"]


def get_official_agent_prompt(name: str) -> str:
    """The system prompt of one player."""
    return f"You are {name}, in a game of werewolves. Help your side to win. Keep it short."


def said_by_moderator(text: str) -> Msg:
    """What everybody hears from nobody in particular."""
    return Msg("Moderator", text, "user")


async def werewolves_game(players: list[ReActAgent], roles: list[str]) -> bool:
    """Whether the good side won.

    Raises:
        BadGuyException: something went wrong while the werewolves chose.
    """
    table = Table(players, [str(role) for role in roles])
    async with MsgHub(players, announcement=said_by_moderator("A new game begins.")):
        pass
    for player, role in zip(players, roles, strict=True):
        await player.observe(said_by_moderator(f"[{player.name} alone] You are a {role}."))
    while table.game.winner() is None:
        await table.night()
        if table.game.winner() is None:
            await table.day()
        table.game.next_day()
    return table.game.winner() == "good"


class Table:
    """Agents at a game."""

    def __init__(self, players: list[ReActAgent], roles: list[str]) -> None:
        self.players = players
        self.game = Game(roles=tuple(roles), day_limit=DAYS)

    def agents(self, role: str | None = None) -> list[ReActAgent]:
        return [self.players[seat] for seat in self.game.living(role)]

    def choice(self) -> type[BaseModel]:
        names: Any = Literal[tuple(agent.name for agent in self.agents())]
        return create_model("Choice", name=(names, ...))

    def seat(self, reply: Msg) -> int | None:
        """The living player that a reply names."""
        name = (reply.metadata or {}).get("name")
        return next((seat for seat in self.game.living() if self.players[seat].name == name), None)

    async def night(self) -> None:
        try:
            attacked = await self.wolves()
        except Exception as error:
            raise BadGuyException(f"the werewolves could not choose: {error}") from error
        saved, poisoned = await self.witch(attacked)
        for seer in self.agents("seer"):
            checked = self.seat(await seer(said_by_moderator("Seer, whom?"), structured_model=self.choice()))
            if checked is not None:
                name = self.players[checked].name
                await seer.observe(said_by_moderator(f"{name} is a {self.game.roles[checked]}."))
        deaths = self.game.night(attacked=attacked, saved=saved, poisoned=poisoned)
        await self.bury(deaths)
        if self.game.day == 1:
            for death in deaths:
                await self.players[death.seat](said_by_moderator("Your last words."))

    async def wolves(self) -> int | None:
        wolves = self.agents("werewolf")
        async with MsgHub(wolves, announcement=said_by_moderator("Werewolves, talk.")) as hub:
            await sequential_pipeline(wolves)
            hub.set_auto_broadcast(False)
            votes = await fanout_pipeline(
                wolves,
                said_by_moderator("Werewolves, whom?"),
                enable_gather=False,
                structured_model=self.choice(),
            )
            return most_voted(self.seat(vote) for vote in votes)

    async def witch(self, attacked: int | None) -> tuple[bool, int | None]:
        for witch in self.agents("witch"):
            reply = await witch(said_by_moderator("Witch, which potion?"), structured_model=Potions)
            wanted: dict[str, Any] = reply.metadata or {}
            if wanted.get("save") and attacked is not None and self.game.can_save:
                return True, None
            if wanted.get("poison") == "somebody" and self.game.can_poison:
                return False, self.seat(await witch(said_by_moderator("Whom?"), structured_model=self.choice()))
        return False, None

    async def bury(self, deaths: list[Death]) -> None:
        for death in deaths:
            await self.tell(f"{self.players[death.seat].name} is dead.")
            if self.game.may_shoot(death) and self.game.winner() is None:
                hunter = self.players[death.seat]
                shot = self.seat(await hunter(said_by_moderator("Hunter, whom?"), structured_model=self.choice()))
                if shot is not None:
                    await self.bury([self.game.shoot(shot)])

    async def day(self) -> None:
        agents = self.agents()
        async with MsgHub(agents, announcement=said_by_moderator("It is day. Talk.")) as hub:
            await sequential_pipeline(agents)
            hub.set_auto_broadcast(False)
            votes = await fanout_pipeline(
                agents, said_by_moderator("Vote."), enable_gather=False, structured_model=self.choice()
            )
        out = most_voted(self.seat(vote) for vote in votes)
        if out is not None:
            await self.bury([self.game.vote_out(out)])

    async def tell(self, text: str) -> None:
        for agent in self.agents():
            await agent.observe(said_by_moderator(text))
