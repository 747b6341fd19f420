"""A whole game as a trainable workflow, of the tutorial's shape: its annotations, its models, formatters and handlers.

Nine players whose roles numpy shuffles by the task's number; who is not trained has a model on a server that nobody can
reach, for which a run's opponent stands in; whatever goes wrong in a game is caught here and scored.
"""

from typing import List  # noqa: UP035  (the way users write it)

import numpy as np
from agentscope.agent import ReActAgent
from agentscope.formatter import DashScopeMultiAgentFormatter, OpenAIMultiAgentFormatter
from agentscope.model import OpenAIChatModel
from loguru import logger
from pydantic import Field
from tutorial_game import (  # type: ignore[import-not-found]  # it lies beside this file, as users' files do
    BadGuyException,
    get_official_agent_prompt,
    werewolves_game,
)

from ajet import AjetTuner, Workflow, WorkflowOutput, WorkflowTask

SPOILT = -0.1


class NineAtATable(Workflow):
    trainable_targets: List[str] | None = Field(default=["werewolf"], description="Who is trained.")  # noqa: UP006

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        assert self.trainable_targets is not None, "This game wants to be told whom to train."
        if "werewolf" in self.trainable_targets:
            assert len(self.trainable_targets) == 1, "Both sides at once cannot be trained."
        else:
            assert len(self.trainable_targets) != 0, "Nobody is trained."

        roles = ["werewolf"] * 3 + ["villager"] * 3 + ["seer", "witch", "hunter"]
        np.random.seed(int(workflow_task.task.metadata["random_number"]))
        np.random.shuffle(roles)

        players = []
        for i, role in enumerate(roles):
            out_of_reach = OpenAIChatModel(
                model_name="/models/some-large-instruct-model/",
                stream=False,
                client_args={"base_url": "http://192.0.2.1:2888/v1"},
                api_key="no_api_key",
                generate_kwargs={"temperature": 0.01},
            )
            model = tuner.as_agentscope_model(
                agent_name=f"Player{i + 1}",
                target_tag=role,
                debug_model=out_of_reach,
            )
            trained = role in self.trainable_targets
            agent = ReActAgent(
                name=f"Player{i + 1}",
                sys_prompt=get_official_agent_prompt(f"Player{i + 1}"),
                model=model,
                formatter=DashScopeMultiAgentFormatter() if trained else OpenAIMultiAgentFormatter(),
                max_iters=3 if trained else 5,
            )
            agent.set_console_output_enabled(False)
            players += [agent]

        try:
            good_wins = await werewolves_game(players, roles)
            is_success = good_wins == (self.trainable_targets[0] != "werewolf")
            raw_reward = 1.0 if is_success else 0.0
            logger.warning(f"Raw reward: {raw_reward}")
        except BadGuyException:
            logger.bind(exception=True).exception("The werewolves spoilt the game.")
            raw_reward, is_success = SPOILT, False
        except Exception:
            logger.bind(exception=True).exception("The game could not be played to its end.")
            raw_reward, is_success = SPOILT, False
        return WorkflowOutput(reward=raw_reward, is_success=is_success)


class SeveralWithoutNames(Workflow):
    """The simple way, with more than one agent: neither names nor tags, so that every agent is trained."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        from agentscope.message import Msg

        said = Msg("user", "Say something.", "user")
        for name in ("Friday", "Saturday"):
            agent = ReActAgent(
                name=name,
                sys_prompt="You are a helpful assistant",
                model=tuner.as_agentscope_model(),
                formatter=DashScopeMultiAgentFormatter(),
            )
            agent.set_console_output_enabled(False)
            said = await agent(said)
        return WorkflowOutput(reward=float(len(said.get_text_content() or "") % 2), metadata={"text": "x"})
