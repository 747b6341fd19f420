"""One round of the signalling game with two agents, `speaker` and `listener`."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from ajet.chat.types import ChatModel
from ajet.tuner import AjetTuner
from ajet.workflow import Workflow, WorkflowOutput, WorkflowTask
from ajet.workflows.signals.game import OBJECTS, WORDS, ScriptedSignaller, listener_prompt, speaker_prompt


class Signals(Workflow):
    """The speaker sees an object and sends a word; the listener picks an object; both are paid for a match."""

    target_tags: ClassVar[tuple[str, ...]] = ("speaker", "listener")
    num_objects: int = Field(default=4, ge=2, le=len(OBJECTS))
    num_words: int = Field(default=4, ge=2, le=len(WORDS))

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """Play one round: the task's number picks the object."""
        objects, words = OBJECTS[: self.num_objects], WORDS[: self.num_words]
        shown = random.Random(workflow_task.task.metadata["random_number"]).choice(objects)
        speaker = tuner.as_agentscope_model(agent_name="speaker", target_tag="speaker")
        listener = tuner.as_agentscope_model(agent_name="listener", target_tag="listener")
        word = await _ask(speaker, speaker_prompt(shown, words))
        picked = await _ask(listener, listener_prompt(word, objects)) if word in words else None
        matched = picked == shown
        return WorkflowOutput(
            reward=float(matched),
            is_success=matched,
            metadata={"shown": shown, "word": word, "picked": picked},
            log_metrics={"illegal_words": float(word not in words), "illegal_picks": float(picked not in objects)},
        )

    @classmethod
    def scripted_player(
        cls, *, agent_name: str, target_tag: str, rng: random.Random, params: Mapping[str, float]
    ) -> ChatModel:
        """A partner with a fixed code; `accuracy` (default 1) is how often it keeps to it."""
        return ScriptedSignaller(rng=rng, accuracy=params.get("accuracy", 1.0))


async def _ask(model: Any, prompt: str) -> str:
    response = await model([{"role": "user", "content": prompt}])
    return "".join(block["text"] for block in response.content).strip()
