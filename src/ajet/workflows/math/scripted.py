"""The scripted solver, teacher of the small model: the problem's expression into the calculator, its result into a box.

In: a request, nothing else. What is decided, sensibly or at random, is the expression alone; the result is boxed as it
comes back. Left out: problems that are not of `problems.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from typing_extensions import override

from ajet.chat.types import ChatReply, ChatRequest, ToolCall
from ajet.errors import WorkflowError
from ajet.workflows.math.problems import attempts, solution
from ajet.workflows.sensible import SensiblePlayer


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedSolver(SensiblePlayer):
    """Calls the calculator until it gives a result, then answers."""

    @override
    def replies(self, request: ChatRequest) -> tuple[Sequence[ChatReply], Sequence[ChatReply]]:
        """See `SensiblePlayer`.

        Raises:
            WorkflowError: another problem than those it was made for.
        """
        last = request.messages[-1]
        if last["role"] == "tool" and not str(last["content"]).startswith("Error"):
            boxed = [ChatReply(content=f"\\boxed{{{last['content']}}}")]
            return boxed, boxed
        question = next(str(message["content"]) for message in request.messages if message["role"] == "user")
        expression = solution(question)
        if expression is None:
            raise WorkflowError(
                f"The scripted solver knows the problems of ajet.workflows.math only, not {question!r}."
            )
        return [_call(expression)], [_call(attempt) for attempt in attempts(question)]


def _call(expression: str) -> ChatReply:
    arguments = json.dumps({"expression": expression})
    return ChatReply(content="", tool_calls=(ToolCall(name="calculator", arguments=arguments),))
