"""`opponent=scripted`: the workflow's own scripted players."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from typing_extensions import override

from ajet.config.fields import named
from ajet.errors import ConfigError
from ajet.rollout.opponents.base import CheckedOpponent, OpponentConfig, OpponentMaker

if TYPE_CHECKING:
    from ajet.chat.types import ChatModel
    from ajet.rollout.running_episode import Agent
    from ajet.workflow import Workflow


@dataclass
class ScriptedPlayersConfig(OpponentConfig):
    """The workflow's own scripted players."""

    name: str = named("scripted")
    params: dict[str, float] = field(default_factory=dict)
    """Handed to the players; which there are is the workflow's."""

    def build(self, *, workflow: type[Workflow]) -> OpponentMaker:
        """What asks the workflow for a player; it raises `ConfigError` where the workflow has none."""

        def make(agent: Agent) -> ChatModel:
            player = workflow.scripted_player(
                agent_name=agent.name, target_tag=agent.target_tag, rng=agent.rng, params=self.params
            )
            if player is None:
                raise ConfigError(
                    f"{workflow.__name__} has no scripted players: choose another opponent "
                    "(`--help` lists those of opponent=...)"
                )
            return CheckedOpponent(player, f"{type(player).__name__}, a scripted player of {workflow.__name__}")

        return make

    @override
    def lacks(self, *, scripted: bool, has_own_models: bool) -> str | None:
        return None if scripted else "scripted players"
