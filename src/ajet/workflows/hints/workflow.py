"""One round of the word game with two agents, `teacher` and `student`.

In: a task with a `word` and its `kind`. Out: for both 1 if the student named the kind after a legal hint, else 0. A
hint that is not legal ends the round: what a student made of it would be worth nothing.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, ClassVar

from ajet.chat.types import ChatModel
from ajet.tuner import AjetTuner
from ajet.workflow import Workflow, WorkflowOutput, WorkflowTask
from ajet.workflows.asking import text_of
from ajet.workflows.hints.game import ScriptedHinter, is_legal_hint, read_guess, student_messages, teacher_messages


class Hints(Workflow):
    """The teacher hints at a word without saying it, the student says what kind of thing it is."""

    target_tags: ClassVar[tuple[str, ...]] = ("teacher", "student")
    has_own_models: ClassVar[bool] = False

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """Play one round."""
        word, kind = (workflow_task.task.metadata[name] for name in ("word", "kind"))
        teacher = tuner.as_agentscope_model(agent_name="teacher", target_tag="teacher")
        student = tuner.as_agentscope_model(agent_name="student", target_tag="student")
        hint = await _ask(teacher, teacher_messages(word))
        metrics = {"legal_hints": float(is_legal_hint(hint, word))}
        guess = None
        if metrics["legal_hints"]:
            guess = read_guess(await _ask(student, student_messages(hint)))
            metrics["legal_guesses"] = float(guess is not None)
            if guess is not None:
                metrics["right_of_legal"] = float(guess == kind)
        return WorkflowOutput(
            reward=float(guess == kind),
            is_success=guess == kind,
            metadata={"word": word, "kind": kind, "hint": hint, "guess": guess},
            log_metrics=metrics,
        )

    @classmethod
    def scripted_player(
        cls, *, agent_name: str, target_tag: str, rng: random.Random, params: Mapping[str, float]
    ) -> ChatModel:
        """A partner that hints by the kind and understands it, with probability `sense`."""
        return ScriptedHinter.of(rng, params)


async def _ask(model: Any, messages: list[dict[str, str]]) -> str:
    return text_of(await model(messages)).strip()
