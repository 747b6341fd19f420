"""A program as a researcher brings it: written against the tutorial's API, its own imports aside.

A little hidden-role game: three villagers and a werewolf each name a suspect, once; the werewolf wins if it is not the
one named most.
"""

from __future__ import annotations

from collections import Counter
from typing import List, Literal  # noqa: UP035  (the way users write it)

import numpy as np
from agentscope.agent import ReActAgent
from agentscope.formatter import DashScopeMultiAgentFormatter, OpenAIMultiAgentFormatter
from agentscope.message import Msg
from agentscope.model import OpenAIChatModel
from pydantic import BaseModel, Field

from ajet import AjetTuner, Workflow, WorkflowOutput, WorkflowTask


class Accusation(BaseModel):
    target: Literal["Player1", "Player2", "Player3", "Player4"]


class ExampleWerewolves(Workflow):
    trainable_targets: List[str] | None = Field(  # noqa: UP006
        default=["werewolf"], description="List of agents to be fine-tuned."
    )

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        assert self.trainable_targets is not None
        roles = ["werewolf", "villager", "villager", "villager"]
        np.random.seed(int(workflow_task.task.metadata["random_number"]))
        np.random.shuffle(roles)
        players = []
        for i, role in enumerate(roles):
            default_model = OpenAIChatModel(
                model_name="some/model",
                stream=False,
                client_args={"base_url": "http://127.0.0.1:9/v1"},
                api_key="no_api_key",
                generate_kwargs={"temperature": 0.01},
            )
            agent = ReActAgent(
                name=f"Player{i + 1}",
                sys_prompt=f"You are Player{i + 1}, the {role}.",
                model=tuner.as_agentscope_model(
                    agent_name=f"Player{i + 1}", target_tag=role, debug_model=default_model
                ),
                formatter=DashScopeMultiAgentFormatter()
                if role in self.trainable_targets
                else OpenAIMultiAgentFormatter(),
                max_iters=3 if role in self.trainable_targets else 5,
            )
            agent.set_console_output_enabled(False)
            players += [agent]
        named: Counter[str] = Counter()
        for player in players:
            reply = await player(Msg("Moderator", "Day 1. Vote.", "user"), structured_model=Accusation)
            if reply.metadata:
                named[reply.metadata["target"]] += 1
        wolf = f"Player{roles.index('werewolf') + 1}"
        wolf_wins = not named or named.most_common(1)[0][0] != wolf
        is_success = wolf_wins == ("werewolf" in self.trainable_targets)
        return WorkflowOutput(reward=float(is_success), is_success=is_success)


class EveryAgentIsTrained(Workflow):
    """The simple practice: no names, no tags."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        agent = ReActAgent(
            name="Friday",
            sys_prompt="You are a helpful assistant",
            model=tuner.as_agentscope_model(),
            formatter=DashScopeMultiAgentFormatter(),
        )
        agent.set_console_output_enabled(False)
        reply = await agent(Msg("user", "Say something.", "user"))
        return WorkflowOutput(reward=float(len(reply.get_text_content() or "") % 2), metadata={"text": "x"})
