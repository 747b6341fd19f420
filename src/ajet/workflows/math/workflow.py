"""One word problem: the solver may use a calculator and gives its answer in a box, which the judge scores.

In: a task with a question, and its answer for the judge. Out: no reward of its own but `metadata["final_answer"]`, the
text with the box; empty where the solver gave none. What cannot be used is answered in a sentence and costs a turn.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from ajet.chat.messages import assistant_message
from ajet.chat.tool_calls import CLOSE, OPEN
from ajet.chat.types import ChatModel, ToolCall
from ajet.tuner import AjetTuner
from ajet.workflow import Workflow, WorkflowOutput, WorkflowTask
from ajet.workflows.arithmetic import ExpressionError, read_expression
from ajet.workflows.math.scripted import ScriptedSolver

INSTRUCTION = "Solve the problem. Use the calculator. Then give the final answer as \\boxed{number}."
CORRECTION = "Call the calculator, or give the final answer as \\boxed{number}."
CALCULATOR = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "Work out an expression of numbers, + - * / and parentheses; the result is exact, e.g. 9/2.",
        "parameters": {
            "type": "object",
            "properties": {"expression": {"type": "string"}},
            "required": ["expression"],
        },
    },
}


class Math(Workflow):
    """A solver with a calculator."""

    target_tags: ClassVar[tuple[str, ...]] = ("solver",)
    max_turns: int = Field(default=4, ge=1)
    """Model calls in one problem; without an answer by then there is none."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """Ask until there is a boxed answer or no turn is left."""
        solver = tuner.as_agentscope_model(agent_name="solver", target_tag="solver")
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": INSTRUCTION},
            {"role": "user", "content": workflow_task.task.main_query},
        ]
        final_answer, results, num_corrections = "", [], 0
        for _ in range(self.max_turns):
            blocks = (await solver(messages, tools=[CALCULATOR])).content
            text = "".join(block["text"] for block in blocks if block["type"] == "text")
            calls = [block["input"] for block in blocks if block["type"] == "tool_use"]
            if not calls and _is_answer(text):
                final_answer = text
                break
            messages.append(assistant_message(text, [_tool_call(arguments) for arguments in calls]))
            if calls:
                answers = [calculate(arguments.get("expression")) for arguments in calls]
                messages += [{"role": "tool", "content": answer} for answer in answers]
                results += answers
            else:
                messages.append({"role": "user", "content": CORRECTION})
                num_corrections += 1
        return WorkflowOutput(
            metadata={"final_answer": final_answer},
            log_metrics={
                "calculator_calls": float(len(results)),
                "calculator_errors": float(sum(result.startswith("Error") for result in results)),
                "unusable_replies": float(num_corrections),
                "unanswered": float(not final_answer),
            },
        )

    @classmethod
    def scripted_player(
        cls, *, agent_name: str, target_tag: str, rng: random.Random, params: Mapping[str, float]
    ) -> ChatModel:
        """A solver whose expression is right with probability `sense` (default 1), else any of the four operators'."""
        return ScriptedSolver.of(rng, params)


def calculate(expression: Any) -> str:
    """The calculator: an exact number as text, or what is wrong."""
    if not isinstance(expression, str):
        return "Error: expression must be a text."
    try:
        return str(read_expression(expression).value)
    except ExpressionError as error:
        return f"Error: {error}."


def _is_answer(text: str) -> bool:
    """Whether a reply without tool calls has a box; a call that could not be parsed is shown as text and is none."""
    return "\\boxed{" in text and OPEN not in text and CLOSE not in text


def _tool_call(arguments: Mapping[str, Any]) -> ToolCall:
    return ToolCall(name="calculator", arguments=json.dumps(arguments))
