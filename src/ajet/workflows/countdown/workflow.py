"""One puzzle: the counter gives an expression, the verifier says whether it reaches the target.

In: a task's `random_number`, which deals the puzzle. Out: 1 for an expression that is exactly right, else 0. A reply
that cannot be used costs its turn as any other miss does; replies so long that the next try no longer fits into the
context are the policy's own fault. Seeds of training and evaluation never meet, but of 300 held-out puzzles 9% were
dealt in 960 training tasks, too, by default.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from ajet.chat.types import ChatModel
from ajet.tuner import AjetTuner
from ajet.workflow import Workflow, WorkflowOutput, WorkflowTask
from ajet.workflows.asking import ask_single_agent, text_of
from ajet.workflows.countdown.game import Kind, ScriptedCounter, deal, prompt, verdict


class Countdown(Workflow):
    """One agent, `counter`, gives one expression: 1 where it reaches the target, else 0."""

    target_tags: ClassVar[tuple[str, ...]] = ("counter",)
    has_own_models: ClassVar[bool] = False
    num_numbers: int = Field(default=3, ge=3, le=4)
    max_number: int = Field(default=20, ge=2, le=999)
    """The given numbers go from 1 to it."""
    max_target: int = Field(default=100, ge=10, le=999)
    """The target goes from 1 to it."""
    max_turns: int = Field(default=1, ge=1)
    """Tries; after each but the last the counter is told what is wrong."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """Ask until the target is reached or no turn is left."""
        puzzle = deal(
            workflow_task.task.metadata["random_number"],
            num_numbers=self.num_numbers,
            max_number=self.max_number,
            max_target=self.max_target,
        )
        counter = tuner.as_agentscope_model(agent_name="counter", target_tag="counter")
        messages: list[dict[str, Any]] = [{"role": "user", "content": prompt(puzzle)}]
        kinds: Counter[Kind] = Counter()
        for _ in range(self.max_turns):
            reply = text_of(await ask_single_agent(counter, messages))
            judged = verdict(puzzle, reply)
            kinds[judged.kind] += 1
            if judged.kind == "right":
                break
            messages += [
                {"role": "assistant", "content": reply},
                {"role": "user", "content": f"{judged.words} Try again."},
            ]
        return WorkflowOutput(
            reward=float(kinds["right"]),
            is_success=kinds["right"] == 1,
            metadata={"numbers": list(puzzle.numbers), "target": puzzle.target},
            log_metrics={"illegal": float(kinds["illegal"]), "unboxed": float(kinds["unboxed"])},
        )

    @classmethod
    def scripted_player(
        cls, *, agent_name: str, target_tag: str, rng: random.Random, params: Mapping[str, float]
    ) -> ChatModel:
        """A counter that gives a solution with probability `sense` (default 1), else any legal expression it knows."""
        return ScriptedCounter.of(rng, params)
