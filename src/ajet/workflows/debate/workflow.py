"""Pro and Con debate a claim, a judge names the winner."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from ajet.chat.types import ChatModel
from ajet.tuner import AjetTuner
from ajet.workflow import Workflow, WorkflowOutput, WorkflowTask
from ajet.workflows.asking import text_of
from ajet.workflows.debate.game import KINDS, SIDES, deal, named_side
from ajet.workflows.debate.scripted import scripted_speaker


class Debate(Workflow):
    """A debater is paid 1 for winning, the judge 1 for naming a side whose evidence is not the weaker one."""

    target_tags: ClassVar[tuple[str, ...]] = (*SIDES, "judge")
    opposing_sides: ClassVar[tuple[tuple[str, ...], ...]] = (("pro",), ("con",))
    has_own_models: ClassVar[bool] = False
    num_rounds: int = Field(default=2, ge=1, le=4)
    hand_size: int = Field(default=4, ge=2, le=len(KINDS))

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """Hold the debate that the task's number deals."""
        trained = self.trainable_targets or self.target_tags
        number = workflow_task.task.metadata["random_number"]
        debate = deal(number, hand_size=self.hand_size, num_rounds=self.num_rounds)
        models = {tag: tuner.as_agentscope_model(agent_name=tag, target_tag=tag) for tag in self.target_tags}
        talks: dict[str, list[dict[str, str]]] = {tag: [] for tag in self.target_tags}
        for _ in range(self.num_rounds):
            debate.hear({side: await _ask(models[side], talks[side], debate.request(side)) for side in SIDES})
        verdict = await _ask(models["judge"], talks["judge"], debate.transcript())
        winner = named_side(verdict)
        rewards = debate.rewards(winner)
        illegal = {f"illegal_statements_{side}": float(debate.cited(side).count(None)) for side in SIDES}
        return WorkflowOutput(
            reward=rewards,
            is_success=all(rewards[tag] == 1 for tag in trained),
            metadata={"claim": debate.claim, "verdict": verdict},
            log_metrics=illegal | {"no_verdict": float(winner is None)},
        )

    @classmethod
    def scripted_player(
        cls, *, agent_name: str, target_tag: str, rng: random.Random, params: Mapping[str, float]
    ) -> ChatModel:
        """A debater, of whose decisions a share of `sense` (default 0.35) is sensible; or the judge, who is fair."""
        return scripted_speaker(target_tag, rng, params)


async def _ask(model: Any, talk: list[dict[str, str]], text: str) -> str:
    talk.append({"role": "user", "content": text})
    talk.append({"role": "assistant", "content": text_of(await model(talk))})
    return talk[-1]["content"]
