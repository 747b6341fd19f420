"""One round of the word game with two agents, `teacher` and `student`.

In: a task with a `word` and its `choices`. Out: for both 1 if the student named the word after a legal hint, -1/3 for
another one of the choices, else 0; success is the word named. A hint that is not legal ends the round: what a student
made of it would be worth nothing.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, ClassVar

from ajet.chat.types import ChatModel
from ajet.tuner import AjetTuner
from ajet.workflow import Workflow, WorkflowOutput, WorkflowTask
from ajet.workflows.asking import text_of
from ajet.workflows.hints.game import (
    WRONG_GUESS_REWARD,
    ScriptedHinter,
    choices_in_order,
    is_legal_hint,
    read_guess,
    student_messages,
    teacher_messages,
)


class Hints(Workflow):
    """The teacher describes a word without saying it, the student finds it among four."""

    target_tags: ClassVar[tuple[str, ...]] = ("teacher", "student")
    has_own_models: ClassVar[bool] = False

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """Play one round."""
        word = workflow_task.task.metadata["word"]
        choices = choices_in_order(workflow_task.task.metadata["choices"], workflow_task.repeat)
        teacher = tuner.as_agentscope_model(agent_name="teacher", target_tag="teacher")
        student = tuner.as_agentscope_model(agent_name="student", target_tag="student")
        hint = await _ask(teacher, teacher_messages(word))
        metrics = {"legal_hints": float(is_legal_hint(hint, word))}
        guess = None
        if metrics["legal_hints"]:
            guess = read_guess(await _ask(student, student_messages(hint, choices)), choices)
            metrics["legal_guesses"] = float(guess is not None)
            if guess is not None:
                metrics["right_of_legal"] = float(guess == word)
        found = guess == word
        return WorkflowOutput(
            reward=1.0 if found else 0.0 if guess is None else WRONG_GUESS_REWARD,
            is_success=found,
            metadata={"word": word, "hint": hint, "guess": guess},
            log_metrics=metrics,
        )

    @classmethod
    def scripted_player(
        cls, *, agent_name: str, target_tag: str, rng: random.Random, params: Mapping[str, float]
    ) -> ChatModel:
        """A partner that hints by categories and knows them, with probability `sense`; errors as `SensiblePlayer`."""
        return ScriptedHinter.of(rng, params)


async def _ask(model: Any, messages: list[dict[str, str]]) -> str:
    return text_of(await model(messages)).strip()
