"""Werewolves as a trainable workflow: AgentScope agents led through the game.

In: a task's `random_number`, which alone deals the roles, so that all episodes of a task share roles and seats.
Out: 1 for a win of the trained side, 0 for a loss, and how the game went. An agent's messages only ever grow at their
end, so that each request extends the last one token by token (a test says when not: after a reply without a tool call).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Self

from pydantic import Field, model_validator

from ajet.chat.types import ChatModel
from ajet.errors import ConfigError, WorkflowError
from ajet.tuner import AjetTuner
from ajet.workflow import Workflow, WorkflowOutput, WorkflowTask
from ajet.workflows.targets import check_targets
from ajet.workflows.werewolves import prompts
from ajet.workflows.werewolves.game import HUNTER, ROLES, SEER, VILLAGER, WEREWOLF, WITCH, Game, deal_roles, side_of
from ajet.workflows.werewolves.params import scripted_params
from ajet.workflows.werewolves.play import Moderator, Players
from ajet.workflows.werewolves.scripted import ScriptedPlayer


class Werewolves(Workflow):
    """One game; trains werewolves, or any roles of the other side."""

    target_tags: ClassVar[tuple[str, ...]] = ROLES
    opposing_sides: ClassVar[tuple[tuple[str, ...], ...]] = ((WEREWOLF,), (VILLAGER, SEER, WITCH, HUNTER))
    has_own_models: ClassVar[bool] = False
    num_werewolves: int = Field(default=3, ge=1)
    num_villagers: int = Field(default=3, ge=0)
    has_seer: bool = True
    has_witch: bool = True
    has_hunter: bool = True
    day_limit: int = Field(default=8, ge=1)
    """Days after which the werewolves have won."""
    discussion_rounds: int = Field(default=1, ge=0)
    """How often everyone speaks before a vote."""
    public_votes: bool = True
    """Whether everyone hears who voted for whom."""
    free_speech: bool = False
    """Whether a statement may carry words of the player's own; for larger models."""
    explain_rules: bool = False
    """Whether the system prompt explains the game; for models that were not trained on it."""
    vote_reward: float = Field(default=0.0, ge=0)
    """What a trained player gets for each vote against the other side, as a reward of that reply: the village may vote
    as the seer says, whoever the seer itself votes for. By `credit=agent_turn` it holds the vote alone."""
    max_iters: int = Field(default=3, ge=1)
    """Model calls an agent may make for one decision, before it counts as none."""

    @model_validator(mode="after")
    def _check_table(self) -> Self:
        """ValueError for a table that cannot be played, ConfigError for targets that cannot be trained."""
        deal_roles(self.role_counts(), random_number=0)
        # At the root, too; but the reward is a side's, so that an object which Python makes must not pass either.
        check_targets(self.trainable_targets, tags=self.target_tags, opposing_sides=self.opposing_sides)
        present = [role for role, count in self.role_counts().items() if count]
        for role in self.trainable_targets or ():
            if role not in present:
                raise ConfigError(f"trainable_targets: this table has no {role}; it has {', '.join(present)}")
        return self

    def role_counts(self) -> dict[str, int]:
        """How many players have each role, roles without any included."""
        return {
            WEREWOLF: self.num_werewolves,
            VILLAGER: self.num_villagers,
            SEER: int(self.has_seer),
            WITCH: int(self.has_witch),
            HUNTER: int(self.has_hunter),
        }

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """Play one game.

        Raises:
            WorkflowError: the task has no `random_number`.
        """
        number = workflow_task.task.metadata.get("random_number")
        if not isinstance(number, int):
            raise WorkflowError("A werewolves task needs metadata['random_number'], an integer that deals the roles.")
        roles = deal_roles(self.role_counts(), number)
        moderator = self.moderator(roles, self._agent_players(roles, tuner), number)
        if self.vote_reward:
            moderator.on_vote = self._vote_rewards(roles, tuner)
        report = await moderator.play()
        # Nothing between a win and a loss, so that nothing but winning is taught, unless votes are.
        won = float(report.winner == side_of(self.trainable_targets or ()))
        return WorkflowOutput(
            reward=won,
            is_success=won == 1.0,
            metadata={
                "roles": {prompts.player_name(seat): role for seat, role in enumerate(roles)},
                "winner": report.winner,
                "events": list(report.events),
            },
            log_metrics=dict(report.metrics),
        )

    def moderator(self, roles: Sequence[str], players: Players, random_number: int) -> Moderator:
        """What leads a game by this workflow's settings."""
        return Moderator(
            game=Game(roles=tuple(roles), day_limit=self.day_limit),
            players=players,
            random_number=random_number,
            discussion_rounds=self.discussion_rounds,
            public_votes=self.public_votes,
            free_speech=self.free_speech,
        )

    def _vote_rewards(self, roles: Sequence[str], tuner: AjetTuner) -> Callable[[int, int | None], None]:
        """Rewards votes against the other side; `tuner` passes over players that are not trained."""

        def reward(seat: int, target: int | None) -> None:
            if target is not None and side_of([roles[seat]]) != side_of([roles[target]]):
                tuner.add_reward(self.vote_reward, agent_name=prompts.player_name(seat))

        return reward

    def _agent_players(self, roles: Sequence[str], tuner: AjetTuner) -> Players:
        # AgentScope takes seconds to import, and this class is all that checking its parameters needs.
        from ajet.workflows.werewolves.agent_players import AgentPlayers, make_agent

        rules = prompts.rules(self.day_limit) if self.explain_rules else ""
        agents = []
        for seat, role in enumerate(roles):
            name = prompts.player_name(seat)
            model = tuner.as_agentscope_model(agent_name=name, target_tag=role)
            agents.append(make_agent(name, prompts.system_prompt(seat, roles, rules), model, max_iters=self.max_iters))
        return AgentPlayers(agents)

    @classmethod
    def scripted_player(
        cls, *, agent_name: str, target_tag: str, rng: random.Random, params: Mapping[str, float]
    ) -> ChatModel:
        """A player that reads its requests only; `params` are those of `ScriptedParams`."""
        return ScriptedPlayer(rng=rng, params=scripted_params(params))
