"""Episodes of workflows with one agent, without an engine: whoever a test makes speaks for it, and is overheard."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests import scripted_play

from ajet.chat.messages import assistant_message, plain_messages
from ajet.chat.types import ChatModel, ChatReply, ChatRequest
from ajet.records import Task
from ajet.workflow import Workflow, WorkflowOutput


@dataclass
class Speaker:
    """Says what it was told to say, then the last of it again."""

    replies: list[str]
    num_said: int = 0

    async def chat(self, request: ChatRequest) -> ChatReply:
        self.num_said += 1
        return ChatReply(content=self.replies[min(self.num_said, len(self.replies)) - 1])


@dataclass
class Overheard:
    """Speaks as its player does; requests and replies are kept."""

    player: ChatModel
    requests: list[ChatRequest] = field(default_factory=list)
    replies: list[ChatReply] = field(default_factory=list)

    async def chat(self, request: ChatRequest) -> ChatReply:
        # The program goes on with its list of messages.
        self.requests.append(ChatRequest(messages=list(request.messages)))
        self.replies.append(await self.player.chat(request))
        return self.replies[-1]

    def read(self, turn: int) -> str:
        """The last message of a request."""
        return str(self.requests[turn].messages[-1]["content"])


def play(workflow: Workflow, number: int, player: ChatModel) -> tuple[WorkflowOutput, Overheard]:
    """One episode of the task with this `random_number`."""
    overheard = Overheard(player)
    task = Task(task_id=f"task-{number}", metadata={"random_number": number})
    return scripted_play.play(workflow, task, lambda tag: overheard), overheard


def success_rate(workflow: Workflow, numbers: Iterable[int], sense: float) -> float:
    """Share of the tasks that the workflow's scripted player solves."""
    (tag,) = workflow.target_tags
    solved = []
    for number in numbers:
        rng = random.Random(f"{number}/{sense}")
        player = workflow.scripted_player(agent_name=tag, target_tag=tag, rng=rng, params={"sense": sense})
        assert player is not None
        output, _ = play(workflow, number, player)
        assert output.reward == float(output.is_success or False)
        solved.append(output.is_success)
    return sum(map(bool, solved)) / len(solved)


def assert_requests_extend_each_other(cast: Overheard) -> None:
    """Each request begins with the one before and its reply, so that recorded ids are used again."""
    for request, reply, later in zip(cast.requests, cast.replies, cast.requests[1:], strict=False):
        so_far = [*plain_messages(request.messages), assistant_message(reply.content, ())]
        assert plain_messages(later.messages)[: len(so_far)] == so_far
