"""One word problem: the solver may use a calculator and gives its answer in a box, which the judge scores.

In: a task with a question, and its answer for the judge. Out: no reward of its own but `metadata["final_answer"]`, the
text with the box; empty where the solver gave none, or one that holds no number but the work that leads to it: a judge
of mathematics would do that work. What else cannot be used is answered in a sentence and costs a turn. Who answers
without the calculator is not paid less. Replies so long that the problem no longer fits into the context are the
policy's own fault.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, ClassVar

from pydantic import Field

from ajet.chat.messages import assistant_message
from ajet.chat.tool_calls import CLOSE, OPEN
from ajet.chat.types import ChatModel, ToolCall
from ajet.tuner import AjetTuner
from ajet.workflow import Workflow, WorkflowOutput, WorkflowTask
from ajet.workflows.arithmetic import ExpressionError, read_expression
from ajet.workflows.asking import ask_single_agent, text_of
from ajet.workflows.math.scripted import ScriptedSolver

INSTRUCTION = "Solve the problem. Use the calculator. Then give the final answer as \\boxed{number}."
CORRECTION = "Call the calculator, or give the final answer as \\boxed{number}."
_BOXED_NUMBER = re.compile(
    r"\\boxed\{\s*(?:\\?\$)?\s*(-?[0-9,]*\.?[0-9]+|-?[0-9]+/[1-9][0-9]*)\s*(?:\\?%|\\text\{[^{}]*\})?\s*\}"
)
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
    has_own_models: ClassVar[bool] = False
    max_turns: int = Field(default=4, ge=1)
    """Model calls in one problem; without an answer by then there is none."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """Ask until there is a boxed answer or no turn is left."""
        solver = tuner.as_agentscope_model(agent_name="solver", target_tag="solver")
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": INSTRUCTION},
            {"role": "user", "content": workflow_task.task.main_query},
        ]
        answer, results, num_corrections = "", [], 0
        for _ in range(self.max_turns):
            response = await ask_single_agent(solver, messages, tools=[CALCULATOR])
            text = text_of(response)
            calls = [block["input"] for block in response.content if block["type"] == "tool_use"]
            if not calls and _is_answer(text):
                answer = text
                break
            messages.append(assistant_message(text, [_tool_call(arguments) for arguments in calls]))
            if calls:
                new_results = [calculate(arguments.get("expression")) for arguments in calls]
                messages += [{"role": "tool", "content": result} for result in new_results]
                results += new_results
            else:
                messages.append({"role": "user", "content": CORRECTION})
                num_corrections += 1
        worked_out = boxes_number(answer)
        return WorkflowOutput(
            metadata={"final_answer": answer if worked_out else ""},
            log_metrics={
                "calculator_calls": float(len(results)),
                "calculator_errors": float(sum(result.startswith("Error") for result in results)),
                "unusable_replies": float(num_corrections),
                "unworked_answers": float(bool(answer) and not worked_out),
                "unanswered": float(not answer),
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


def boxes_number(text: str) -> bool:
    """Whether the last box of a text holds a number, its unit aside, and a fraction in its lowest terms.

    Example: 121, 1,250.50, \\$18 and 9/2 are numbers; 703 - 582, 703/19 and 18/4 are not.
    """
    match = _BOXED_NUMBER.match(text, max(text.rfind("\\boxed"), 0))
    if match is None:
        return False
    number = match[1].replace(",", "")
    return "/" not in number or str(Fraction(number)) == number


def _is_answer(text: str) -> bool:
    """Whether a reply without tool calls has a box; a call that could not be parsed is shown as text and is none."""
    return "\\boxed{" in text and OPEN not in text and CLOSE not in text


def _tool_call(arguments: Mapping[str, Any]) -> ToolCall:
    return ToolCall(name="calculator", arguments=json.dumps(arguments))
