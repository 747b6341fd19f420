"""One round of the signalling game with two agents, `speaker` and `listener`."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from ajet.chat.types import ChatModel
from ajet.errors import ConfigError
from ajet.tuner import AjetTuner
from ajet.workflow import Workflow, WorkflowOutput, WorkflowTask
from ajet.workflows.asking import text_of
from ajet.workflows.signals.game import (
    DIALECTS,
    OBJECTS,
    SHARED_CODE,
    WORDS,
    ScriptedSignaller,
    listener_prompt,
    speaker_prompt,
)


class Signals(Workflow):
    """The speaker sees an object and sends a word; the listener picks an object; both are paid for a match."""

    target_tags: ClassVar[tuple[str, ...]] = ("speaker", "listener")
    has_own_models: ClassVar[bool] = False
    num_objects: int = Field(default=4, ge=2, le=len(OBJECTS))
    """Objects that may be shown; a listener that guesses finds one in so many."""
    num_words: int = Field(default=4, ge=2, le=len(WORDS))
    """Words that the speaker may send."""

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
        """A partner with a fixed code; `accuracy` (default 1) is how often it keeps to it, `code` which of two.

        Raises:
            ConfigError: an unknown name, or a number that it cannot be.
        """
        for name, value in params.items():
            if name not in ("accuracy", "code"):
                raise ConfigError(f"opponent.params.{name}: scripted signals players have accuracy and code")
            if name == "accuracy" and not 0 <= value <= 1:
                raise ConfigError(f"opponent.params.accuracy={value}: a probability is between 0 and 1")
            if name == "code" and value not in (SHARED_CODE, DIALECTS):
                raise ConfigError(
                    f"opponent.params.code={value}: choose {SHARED_CODE} (one code for both players) "
                    f"or {DIALECTS} (each has its own)"
                )
        return ScriptedSignaller(
            rng=rng, accuracy=params.get("accuracy", 1.0), code=int(params.get("code", SHARED_CODE))
        )


async def _ask(model: Any, prompt: str) -> str:
    return text_of(await model([{"role": "user", "content": prompt}])).strip()
