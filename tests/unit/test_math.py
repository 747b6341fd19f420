"""The workflow `math`: its problems, its files, the calculator's turns, the scripted solver and GSM8K's preset."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.scripted_play import Reciter, play, scripted

from ajet.assemble.components import make_task_source
from ajet.chat.tool_calls import reply_as_text
from ajet.chat.types import ChatReply, ChatRequest, ToolCall
from ajet.config.compose import compose
from ajet.data.files import JsonlConfig, resolve_data_path
from ajet.data.huggingface import HuggingFaceConfig
from ajet.errors import ConfigError, WorkflowError
from ajet.records import Task
from ajet.rollout.judges.answers import BoxedMath, BoxedMathConfig
from ajet.rollout.judges.base import BaseJudge
from ajet.workflow import WorkflowOutput, WorkflowTask
from ajet.workflows.arithmetic import read_expression
from ajet.workflows.math.problems import TEMPLATES, attempts, numbers_in, problem, solution
from ajet.workflows.math.scripted import ScriptedSolver
from ajet.workflows.math.workflow import CALCULATOR, CORRECTION, INSTRUCTION, Math, boxes_number, calculate

SUM = Task(task_id="t", main_query="Ben has 36 pens and finds 48 more. How many pens does Ben have now?")
FILES = ("train", "held_out")


def call(expression: str) -> ChatReply:
    arguments = json.dumps({"expression": expression})
    return ChatReply(content="", tool_calls=(ToolCall(name="calculator", arguments=arguments),))


def said(text: str) -> ChatReply:
    return ChatReply(content=text)


def solve(*replies: ChatReply, task: Task = SUM, max_turns: int = 4) -> tuple[WorkflowOutput, list[ChatRequest]]:
    reciter = Reciter(replies)
    return play(Math(max_turns=max_turns), task, lambda tag: reciter), reciter.requests


def boxed_math() -> BaseJudge:
    return BoxedMath(BoxedMathConfig())


def success_rate(sense: float, tasks: Sequence[Task]) -> float:
    workflow, judge = Math(), boxed_math()
    num_right = 0.0
    for number, task in enumerate(tasks):
        output = play(workflow, task, scripted(workflow, str(number), sense=sense))
        assert output.log_metrics["calculator_calls"] == 1.0 and output.log_metrics["unusable_replies"] == 0.0
        num_right += judge.compute_reward(WorkflowTask(task=task), output)[0]
    return num_right / len(tasks)


def test_every_problem_has_an_exact_answer_that_its_numbers_give() -> None:
    for number in range(2000):
        task = problem(number)
        expression = solution(task.main_query)
        assert expression is not None and expression in attempts(task.main_query)
        answer = read_expression(expression).value
        assert str(answer) == task.metadata["answer"] and answer.denominator == 1 and 1 <= answer <= 999
        assert all(2 <= given <= 999 for given in numbers_in(task.main_query))


def test_no_question_fits_two_templates() -> None:
    for number in range(500):
        question = problem(number).main_query
        assert sum(template.pattern().fullmatch(question) is not None for template in TEMPLATES) == 1


def test_two_numbers_are_tried_in_either_order_and_three_in_theirs() -> None:
    assert attempts("36 and 48") == [f"{a} {name} {b}" for a, b in ((36, 48), (48, 36)) for name in "+-*/"]
    assert len(attempts("2, 3 and 4")) == 16 and "(2 + 3) * 4" in attempts("2, 3 and 4")


def test_the_files_that_ship_are_those_that_the_generator_writes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ajet.workflows.math.problems", str(tmp_path)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    for name in FILES:
        shipped = Path(resolve_data_path(f"builtin:math/{name}.jsonl")).read_text()
        assert shipped == (tmp_path / f"{name}.jsonl").read_text()


def test_the_preset_reads_the_shipped_files_wherever_it_is_started(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkpoint)
    config = compose(["workflow=math", f"model.path={checkpoint}"], run_dir=checkpoint)
    assert isinstance(config.data, JsonlConfig)
    assert (config.data.path, config.judge.name) == ("builtin:math/train.jsonl", "boxed_math")
    source = make_task_source(config)
    assert len(source.train_tasks(0, 600)) == 600 and len(source.held_out_tasks(300)) == 300


def test_a_file_that_does_not_ship_is_refused(checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.path: there is no file builtin:math/nosuch\.jsonl"):
        compose(
            ["workflow=math", f"model.path={checkpoint}", "data.path=builtin:math/nosuch.jsonl"], run_dir=checkpoint
        )


def test_the_solver_sees_the_problem_its_call_and_the_result() -> None:
    output, requests = solve(call("36 + 48"), said("\\boxed{84}"))
    assert list(requests[0].tools) == [CALCULATOR]
    assert requests[1].messages == [
        {"role": "system", "content": INSTRUCTION},
        {"role": "user", "content": SUM.main_query},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"type": "function", "function": {"name": "calculator", "arguments": {"expression": "36 + 48"}}}
            ],
        },
        {"role": "tool", "content": "84"},
    ]
    assert output.reward is None and output.metadata == {"final_answer": "\\boxed{84}"}
    assert output.log_metrics == {
        "calculator_calls": 1.0,
        "calculator_errors": 0.0,
        "unusable_replies": 0.0,
        "unworked_answers": 0.0,
        "unanswered": 0.0,
    }


def test_several_calls_in_one_reply_are_answered_in_their_order() -> None:
    calls = (*call("1 + 1").tool_calls, *call("2 / 4").tool_calls)
    output, requests = solve(ChatReply(content="Two.", tool_calls=calls), said("\\boxed{1}"))
    assert [message["content"] for message in requests[1].messages[-2:]] == ["2", "1/2"]
    assert output.log_metrics["calculator_calls"] == 2.0


def test_a_calculator_error_is_told_and_counted() -> None:
    output, requests = solve(call("36 +"), call("36 / 0"), said("\\boxed{84}"))
    assert requests[1].messages[-1]["content"] == "Error: this is no complete expression."
    assert requests[2].messages[-1]["content"] == "Error: it divides by zero."
    assert output.log_metrics["calculator_errors"] == 2.0


@pytest.mark.parametrize("expression", [None, 84, ["36 + 48"], {"a": 1}])
def test_a_calculator_that_is_given_no_text_says_so(expression: object) -> None:
    assert calculate(expression) == "Error: expression must be a text."


def test_a_reply_that_cannot_be_used_is_corrected_and_costs_a_turn() -> None:
    malformed = said("\\boxed{84}<tool_call>{oops</tool_call>\n[format error: the tool call is not valid JSON]")
    output, requests = solve(said("It is 84."), malformed, said(""), said("\\boxed{84}"))
    assert [request.messages[-1] for request in requests[1:]] == [{"role": "user", "content": CORRECTION}] * 3
    assert output.log_metrics["unusable_replies"] == 3.0 and output.metadata["final_answer"] == "\\boxed{84}"


def test_without_a_boxed_answer_in_time_there_is_none_and_it_is_wrong() -> None:
    task = Task(task_id="t", main_query=SUM.main_query, metadata={"answer": "84"})
    boxed_beside_a_call = ChatReply(content="\\boxed{84}", tool_calls=call("36 + 48").tool_calls)
    output, _ = solve(said("84"), boxed_beside_a_call, task=task, max_turns=2)
    assert output.metadata["final_answer"] == "" and output.log_metrics["unanswered"] == 1.0
    assert boxed_math().compute_reward(WorkflowTask(task=task), output) == (0.0, False)


@pytest.mark.parametrize(
    ("box", "is_number"),
    [
        ("84", True),
        ("-3", True),
        ("9/2", True),
        ("1,250.50", True),
        ("\\$84", True),
        ("84\\%", True),
        ("84 \\text{ pens}", True),
        ("36 + 48", False),
        ("36\\cdot 48", False),
        ("168/2", False),
        ("18/4", False),
        ("5/0", False),
        ("84 \\text{x} + 0", False),
        ("pens", False),
        ("", False),
    ],
)
def test_a_box_holds_a_number_and_not_the_work_that_leads_to_it(box: str, is_number: bool) -> None:
    assert boxes_number(f"\\boxed{{1 + 1}} So \\boxed{{{box}}}.") is is_number


def test_an_answer_that_is_not_worked_out_ends_the_problem_and_is_wrong() -> None:
    task = Task(task_id="t", main_query=SUM.main_query, metadata={"answer": "84"})
    output, requests = solve(said("\\boxed{36 + 48}"), task=task)
    assert len(requests) == 1 and output.metadata["final_answer"] == ""
    assert output.log_metrics["unworked_answers"] == 1.0 and output.log_metrics["unanswered"] == 0.0
    assert boxed_math().compute_reward(WorkflowTask(task=task), output) == (0.0, False)


def test_a_sensible_solver_is_right_and_a_random_one_seldom() -> None:
    tasks = [problem(10_000 + number) for number in range(300)]
    assert success_rate(1.0, tasks) == 1.0
    # 2 of 8 attempts for a sum or product of two numbers, 1 of 8 for another, about 1 of 16 for three numbers.
    assert 0.06 <= success_rate(0.0, tasks) <= 0.2


def test_a_solver_that_was_corrected_calls_again_and_boxes_what_comes_back() -> None:
    solver = ScriptedSolver(rng=random.Random(0), sense=0.5)
    question = {"role": "user", "content": SUM.main_query}
    odds = solver.choices(ChatRequest(messages=[question, {"role": "user", "content": CORRECTION}]))
    assert len(odds) == 8 and sum(chance for _, chance in odds) == pytest.approx(1.0)
    assert dict(odds)[call("36 + 48")] == pytest.approx(0.5 + 0.5 / 8)
    ((reply, chance),) = solver.choices(ChatRequest(messages=[question, {"role": "tool", "content": "9/2"}]))
    assert (reply_as_text(reply), chance) == ("\\boxed{9/2}", 1.0)


def test_a_problem_of_somebody_else_is_none_for_the_scripted_solver() -> None:
    workflow = Math()
    with pytest.raises(WorkflowError, match="knows the problems of ajet"):
        play(workflow, Task(main_query="What is 2 + 2?"), scripted(workflow, "0"))


@pytest.mark.parametrize(
    ("params", "reason"),
    [({"sense": 1.5}, "a probability is between 0 and 1"), ({"skill": 0.5}, "scripted players have sense")],
)
def test_parameters_that_scripted_players_do_not_have_are_refused(params: dict[str, float], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        scripted(Math(), "0", **params)("solver")


def test_the_gsm8k_preset_reads_a_copy_of_that_shape_and_its_answers(checkpoint: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [
        {
            "question": f"Weng sells {n} clips and twice as many later. How many?",
            "answer": f"{n} + {2 * n}\n#### {3 * n}",
        }
        for n in range(40)
    ]
    splits = {"train": rows[:33], "test": rows[33:]}
    copy = datasets.DatasetDict({name: datasets.Dataset.from_list(part) for name, part in splits.items()})
    copy.save_to_disk(tmp_path / "gsm8k")
    preset = ["experiment=math_gsm8k", f"model.path={checkpoint}"]
    hub = compose(preset, run_dir=tmp_path).data
    assert isinstance(hub, HuggingFaceConfig)
    assert (hub.path, hub.subset, hub.split, hub.held_out_split) == ("openai/gsm8k", "main", "train", "test")
    source = make_task_source(
        compose([*preset, f"data.path={tmp_path / 'gsm8k'}", "data.subset=null"], run_dir=tmp_path)
    )
    assert len(source.train_tasks(0, 32)) == 32
    task = next(task for task in source.held_out_tasks(7) if "39 clips" in task.main_query)
    output, _ = solve(call("39 + 2 * 39"), said("So \\boxed{117}."), task=task)
    assert boxed_math().compute_reward(WorkflowTask(task=task), output) == (1.0, True)
