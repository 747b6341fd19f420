"""One episode of a workflow whose agents are any chat models: no engine, no tokens."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ajet.chat.types import ChatModel, ChatReply, ChatRequest
from ajet.config.root import Config
from ajet.records import Task
from ajet.tuner import AjetTuner
from ajet.workflow import Workflow, WorkflowOutput, WorkflowTask


@dataclass
class Reciter:
    """Gives its replies in turn and keeps what it was asked."""

    replies: Sequence[ChatReply]
    requests: list[ChatRequest] = field(default_factory=list)

    async def chat(self, request: ChatRequest) -> ChatReply:
        # A copy: the program goes on writing into its list of messages.
        self.requests.append(ChatRequest(messages=list(request.messages), tools=request.tools))
        return self.replies[len(self.requests) - 1]


def play(workflow: Workflow, task: Task, make: Callable[[str], ChatModel]) -> WorkflowOutput:
    """The workflow's output where `make` gives each tag's player."""
    tuner = AjetTuner(
        config=Config(),
        trainable_targets=workflow.trainable_targets,
        reply_source=lambda agent: make(agent.target_tag),
    )
    return asyncio.run(workflow.execute(WorkflowTask(task=task), tuner))


def scripted(workflow: Workflow, key: str, **params: float) -> Callable[[str], ChatModel]:
    """Makes the workflow's own scripted players, seeded by `key` and their tag."""

    def make(tag: str) -> ChatModel:
        player = workflow.scripted_player(
            agent_name=tag, target_tag=tag, rng=random.Random(f"{key}/{tag}"), params=params
        )
        assert player is not None
        return player

    return make
