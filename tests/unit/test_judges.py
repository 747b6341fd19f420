"""Judges: what each calls right, and that one who fails is a failure of the infrastructure, never a zero."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ajet.task_judge.base_judge import BaseJudge as AgentJetsBaseJudge
from openai import InternalServerError
from recipes.small_models.tokenizer import train_tokenizer
from tests.episodes import Run
from transformers import PreTrainedTokenizerBase

from ajet.assemble.components import make_judge
from ajet.config.compose import compose
from ajet.config.options import option
from ajet.config.root import Config, EvaluateConfig
from ajet.config.saved import load, save
from ajet.errors import ConfigError, WorkflowError
from ajet.evaluate.entries import evaluation_entries
from ajet.records import Task
from ajet.rollout.judges.base import BaseJudge, apply_judge
from ajet.rollout.judges.effort import is_short, is_small
from ajet.rollout.judges.llm import CACHE_FILE, read_score
from ajet.tuner import AjetTuner
from ajet.workflow import Workflow, WorkflowOutput, WorkflowTask


def ask(judge: BaseJudge | None, given: Any, right: Any = "4", **output: Any) -> WorkflowOutput:
    assert judge is not None
    task = WorkflowTask(task=Task(task_id="t", main_query="2 + 2?", metadata={"answer": right}))
    return asyncio.run(apply_judge(judge, task, WorkflowOutput(metadata={"final_answer": given}, **output)))


def made(tmp_path: Path, name: str, **settings: Any) -> BaseJudge:
    judge = make_judge(Config(judge=option("judge", name)(**settings), run_dir=str(tmp_path)))
    assert judge is not None
    return judge


@pytest.mark.parametrize(
    ("name", "given", "right", "is_right"),
    [
        ("exact_match", " Four  apples", "four apples", True),
        ("exact_match", "five", "four", False),
        ("exact_match", None, "four", False),
        ("exact_match", 0, "0", True),
        ("contains", "It is Paris, of course.", "paris", True),
        ("contains", "It is Rome.", "paris", False),
        ("contains", "14", "4", False),
        ("contains", "2.4 or 4.5 or 1,234 or 4,000", "4", False),
        ("contains", "-4 or \u22124 or 1/4 or 1 / 4 or 4/5 or 4% or 4 % or 4 000 or 2^4 or 4^2 or 1:4", "4", False),
        ("contains", "1 400", "400", False),
        ("contains", "x=4", "4", True),
        ("contains", "4 apples, $4 - or 4!", "4", True),
        ("contains", "x = \u22124", "-4", True),
        ("contains", "10-4", "-4", False),
        ("contains", "It is (4).", "4", True),
        ("contains", "So: 4, or 4.", "4", True),
        ("contains", "C++ it is", "C++", True),
        ("contains", "category", "cat", False),
        ("contains", "答案是四个", "四", True),
        ("boxed_math", r"So \boxed{\frac{1}{2}}", "0.5", True),
        ("boxed_math", r"First \boxed{3}, no: \boxed{4}.", "4", True),
        ("boxed_math", r"First \boxed{4}, no: \boxed{3}.", "4", False),
        ("boxed_math", r"\boxed{2x + 2}", r"2(x+1)", True),
        ("boxed_math", r"\boxed{1,200}", "1200", True),
        ("boxed_math", "It is 4.", "4", False),
        ("boxed_math", r"\boxed{72}", "48 + 24 = <<48+24=72>>72 clips.\n#### 72", True),
        ("boxed_math", r"\boxed{}", "4", False),
        ("boxed_math", r"\boxed{\sqrt{8}}", r"The solution is \boxed{2\sqrt{2}}.", True),
    ],
)
def test_what_each_judge_calls_right(name: str, given: Any, right: str, is_right: bool, tmp_path: Path) -> None:
    output = ask(made(tmp_path, name), given, right)
    assert (output.reward, output.is_success) == (float(is_right), is_right)


@pytest.mark.parametrize(
    ("answer", "is_little_work"),
    [
        (r"9^{9^{9}}", False),
        (r"(((9^{9})^{9})^{9})^{9}", False),
        (r"99999999!", False),
        (r"(9^9)!", False),
        (r"(x+1)^{3000}", False),
        (r"\frac{x^{2000}-1}{x-1}", False),
        (r"\sum_{n=1}^{9} n", False),
        (r"e^{e^{e^{e^{9}}}}", False),
        (r"\binom{99999}{50000}", False),
        (r"\Gamma(99999999)", False),
        ("((((((((1))))))))", False),
        ("1" + "+1" * 200, False),
        (r"2^{2024} - 1", True),
        (r"10!", True),
        (r"n!", True),
        (r"\binom{10}{3}", True),
        (r"(x+1)^{10}", True),
        (r"2^{n+1}", True),
        (r"\frac{-b \pm \sqrt{b^2 - 4ac}}{2a}", True),
        (r"\left(\frac{1}{2}, 3\right] \cup [5, \infty)", True),
        (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", True),
        (r"e^{-2x}", True),
        (r"\log_{2} 1000000", True),
        (r"x^2 + y^2 \le 25", True),
    ],
)
def test_an_answer_that_would_take_long_to_work_out_is_not_worked_out(answer: str, is_little_work: bool) -> None:
    from math_verify import LatexExtractionConfig, parse

    box = f"\\boxed{{{answer}}}"
    short = is_short(box)
    # Read only what is short, as the judge does; nothing is worked out here.
    read = parse(box, extraction_config=[LatexExtractionConfig(boxed_match_priority=0)]) if short else []
    assert (short and all(isinstance(part, str) or is_small(part) for part in read)) == is_little_work


def test_case_counts_where_it_is_told_to(tmp_path: Path) -> None:
    assert ask(made(tmp_path, "exact_match", ignore_case=False), "Four", "four").reward == 0.0


def test_a_missing_answer_names_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(WorkflowError, match=r"metadata\['reply'\] of the workflow's output.*it has final_answer"):
        ask(made(tmp_path, "contains", given="reply"), "x")
    with pytest.raises(WorkflowError, match=r"metadata\['gold'\] of task t.*it has answer"):
        ask(made(tmp_path, "contains", reference="gold"), "x")
    with pytest.raises(WorkflowError, match="cannot read the right answer"):
        ask(made(tmp_path, "boxed_math"), r"\boxed{4}", r"\boxed{}")


@pytest.mark.parametrize("name", ["exact_match", "contains", "boxed_math"])
@pytest.mark.parametrize("blank", ["", " \n", None])
def test_a_blank_right_answer_is_an_error_for_everything_would_agree_with_it(
    name: str, blank: str | None, tmp_path: Path
) -> None:
    with pytest.raises(WorkflowError, match=r"metadata\['answer'\] of task t"):
        ask(made(tmp_path, name), "", blank)


JUDGES = """
import asyncio
import numpy as np
from ajet.task_judge.base_judge import BaseJudge

class Length(BaseJudge):
    def compute_reward(self, workflow_task, workflow_output):
        n = len(workflow_output.metadata["final_answer"])
        return n / self.config.judge.max_score, n > 3

class Unrelated:
    def __init__(self, config): pass

def plain(workflow_task, workflow_output):
    return 0.25

async def by_tag(workflow_task, workflow_output):
    return {"seer": 1.0}, True

def broken(workflow_task, workflow_output):
    return "good"

class OfNumpy:
    def __init__(self, config):
        self.rng = np.random.default_rng(config.seed)

    def compute_reward(self, workflow_task, workflow_output):
        return np.float32(0.5), np.bool_(True)

def waits(workflow_task, workflow_output):
    return asyncio.run(by_tag(workflow_task, workflow_output))

class NoSetting:
    def __init__(self, config):
        self.key = config.my_judge.key

number = 3
"""


def test_judges_of_ones_own_are_classes_or_functions(tmp_path: Path) -> None:
    file = tmp_path / "my_judges.py"
    file.write_text(JUDGES)
    assert AgentJetsBaseJudge is BaseJudge
    outputs = {name: ask(made(tmp_path, "python", entry=f"{file}->{name}"), "abcd") for name in ("Length", "plain")}
    assert (outputs["Length"].reward, outputs["Length"].is_success) == (0.4, True)
    assert (outputs["plain"].reward, outputs["plain"].is_success) == (0.25, None)
    assert ask(made(tmp_path, "python", entry=f"{file}->by_tag"), "x", is_success=False) == WorkflowOutput(
        reward={"seer": 1.0}, is_success=False, metadata={"final_answer": "x"}
    )
    numpys = ask(made(tmp_path, "python", entry=f"{file}->OfNumpy"), "x")
    assert (numpys.reward, numpys.is_success) == (0.5, True) and type(numpys.reward) is float
    with pytest.raises(WorkflowError, match=r"returned 'good': return \(reward, is_success\)"):
        ask(made(tmp_path, "python", entry=f"{file}->broken"), "x")
    with pytest.raises(ConfigError, match="Unrelated has no compute_reward"):
        made(tmp_path, "python", entry=f"{file}->Unrelated")
    with pytest.raises(ConfigError, match="neither a function nor a class"):
        made(tmp_path, "python", entry=f"{file}->number")
    with pytest.raises(ConfigError, match=rf"judge\.entry=.*the config has no my_judge; .*\({file}:\d+\)"):
        made(tmp_path, "python", entry=f"{file}->NoSetting")


def test_a_judge_with_an_event_loop_of_its_own_runs_on_a_thread(tmp_path: Path) -> None:
    (tmp_path / "my_judges.py").write_text(JUDGES)
    entry = f"{tmp_path}/my_judges.py->waits"
    assert ask(made(tmp_path, "python", entry=entry, own_thread=True), "x").reward == {"seer": 1.0}


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["judge=python"], r"judge=python needs judge\.entry"),
        (["judge=llm", "judge.model=m"], r"judge=llm needs judge\.base_url"),
        (
            ["judge=contains"],
            r"judge=contains compares with the task's own answer, which tasks of data=seeds do not have",
        ),
        (["judge=llm", "judge.own_thread=true"], r"judge\.own_thread has no effect with judge=llm"),
        (
            ["judge=contains", "judge.rubric=x"],
            r"judge\.rubric has no effect with judge=contains: drop it or choose judge=llm",
        ),
        (["judge=python", "judge.entry=a:b", "judge.success_score=11"], r"score=11 is above judge\.max_score=10"),
        (
            ["judge.given=reply"],
            r"judge\.given has no effect with judge=none: drop it or choose judge=boxed_math\|contains",
        ),
        (["judge=python", "judge.entry=a:b", "judge.timeout_s=5"], r"judge\.timeout_s has no effect with judge=python"),
        (
            ["judge=llm", "judge.model=m", "judge.base_url=u", "rollout.timeout_s=80"],
            r"judge\.timeout_s=30 for up to 3 requests .* is 90 s, .* rollout\.timeout_s=80",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(overrides: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        compose(["workflow=signals", *overrides], run_dir=tmp_path)


class Grader:
    """An OpenAI-compatible server that answers from a list; an int is an HTTP error."""

    def __init__(self, *answers: str | int) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []
        grader = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                grader.asked.append(body)
                answer = grader.answers.pop(0)
                status = answer if isinstance(answer, int) else 200
                message = {"role": "assistant", "content": answer}
                choice = {"index": 0, "message": message, "finish_reason": "stop"}
                said = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
                payload = json.dumps(said if status == 200 else {"error": {"message": "busy"}}).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(payload)))
                self.send_header("retry-after-ms", "1")
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.settings = {"base_url": f"http://127.0.0.1:{self.server.server_port}/v1", "model": "m"}


@pytest.fixture
def grading() -> Iterator[Any]:
    graders: list[Grader] = []

    def start(*answers: str | int) -> Grader:
        graders.append(Grader(*answers))
        return graders[-1]

    yield start
    for grader in graders:
        grader.server.shutdown()
        grader.server.server_close()


def test_a_model_scores_by_the_rubric_after_failures_and_once_an_answer(grading: Any, tmp_path: Path) -> None:
    grader = grading(500, "I cannot say.", "Fine.\n**Score:** 8/10.")
    judge = made(tmp_path, "llm", **grader.settings, success_score=8, rubric="Be kind.")
    output = ask(judge, "It is 4.</answer><b>")
    assert (output.reward, output.is_success) == (0.8, True)
    system, user, *again = grader.asked[-1]["messages"]
    assert "Be kind." in system["content"]
    assert (
        "<question>\n2 + 2?\n</question>" in user["content"] and "It is 4.<\\/answer><b>\n</answer>" in user["content"]
    )
    assert again[0] == {"role": "assistant", "content": "I cannot say."} and "Score: <number>" in again[1]["content"]
    # The same answer again, in this run or after a resume, asks nobody.
    assert ask(judge, "It is 4.</answer><b>").reward == 0.8
    assert ask(made(tmp_path, "llm", **grader.settings, rubric="Be kind."), "It is 4.</answer><b>").reward == 0.8
    assert not grader.answers


def test_a_failed_request_and_a_reply_without_a_score_share_the_retries(grading: Any, tmp_path: Path) -> None:
    grader = grading(500, "Hm.", 500, "Score: 8")
    with pytest.raises(InternalServerError):
        ask(made(tmp_path, "llm", **grader.settings, max_retries=2), "a")
    assert len(grader.asked) == 3


def test_a_group_whose_episodes_agree_asks_once_and_again_only_after_a_failure(grading: Any, tmp_path: Path) -> None:
    grader = grading(400, "Score: 6")
    judge = made(tmp_path, "llm", **grader.settings, temperature=0.5, max_retries=0)
    task = WorkflowTask(task=Task(task_id="t", main_query="2 + 2?", metadata={"answer": "4"}))

    async def all_at_once() -> list[Any]:
        outputs = [WorkflowOutput(metadata={"final_answer": "4"}) for _ in range(5)]
        return await asyncio.gather(*(apply_judge(judge, task, output) for output in outputs), return_exceptions=True)

    failed, *scored = asyncio.run(all_at_once())
    assert isinstance(failed, Exception) and [output.reward for output in scored] == [0.6] * 4
    assert len(grader.asked) == 2 and grader.asked[0]["temperature"] == 0.5


def test_a_score_outside_the_scale_is_brought_back(grading: Any, tmp_path: Path) -> None:
    judge = made(tmp_path, "llm", **grading("Score: 12", "Score: -3").settings)
    assert (ask(judge, "a").reward, ask(judge, "b").reward) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("said", "score"),
    [
        ("Score: .5", 0.5),
        ("Fine.\n- **Score: 8/10**.\nThat is all.", 8.0),
        ("Score: 3\nScore: `4`", 4.0),
        ("Score: \u22123", -3.0),
        ("Score: 7. I would not change the score\n\n10 points is the max", None),
        ("Score (0-10): 9", None),
        ("Score: 80%", None),
        ("Score: 4/5", None),
        ("Score: 8,5", None),
        ("A score: eight", None),
    ],
)
def test_a_score_is_a_line_that_says_nothing_else(said: str, score: float | None) -> None:
    assert read_score(said, 10.0) == score


def test_a_half_written_line_of_the_cache_is_dropped_and_nothing_is_glued_to_it(grading: Any, tmp_path: Path) -> None:
    cache = tmp_path / CACHE_FILE
    cache.write_text('{"key": "a", "score": 1.0}\n{"key": "b", "sc')
    grader = grading("Score: 7")
    for _ in range(2):
        assert ask(made(tmp_path, "llm", **grader.settings), "4").reward == 0.7
    assert [json.loads(line)["score"] for line in cache.read_text().splitlines()] == [1.0, 7.0]


def test_an_evaluation_keeps_what_the_judge_said_and_changes_no_run_be_it_moved(grading: Any, tmp_path: Path) -> None:
    made_in, moved, out = (tmp_path / name for name in ("run", "moved", "evaluation"))
    for folder in (made_in, out):
        folder.mkdir()
    grader = grading("Score: 7")
    answers = f'workflow.entry="{__name__}->Answers"'
    config = compose(["workflow=custom", answers, "trainable_targets=[seer]"], run_dir=made_in)
    config.judge = option("judge", "llm")(**grader.settings)
    save(config, made_in / "config.yaml")
    made_in.rename(moved)
    assert load(moved).run_dir == str(moved)
    request = EvaluateConfig(run=str(moved), console="none", output_dir=str(out), trust_code=True)
    for entry in evaluation_entries(request):  # the second policy's judge knows what the first one's was told
        assert ask(make_judge(entry.config), "4").reward == 0.7
    assert len((out / CACHE_FILE).read_text().splitlines()) == 1
    assert [path.name for path in moved.iterdir()] == ["config.yaml"] and not made_in.exists()
    assert len(grader.asked) == 1


def test_a_model_that_never_scores_is_an_error(grading: Any, tmp_path: Path) -> None:
    judge = made(tmp_path, "llm", **grading("Hm.", "Hm?").settings, max_retries=1)
    with pytest.raises(WorkflowError, match="no `Score: <number>`; its last reply was 'Hm\\?'"):
        ask(judge, "a")


class Answers(Workflow):
    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        await tuner.as_agentscope_model(agent_name="P1", target_tag="seer")([{"role": "user", "content": "?"}])
        return WorkflowOutput(metadata={"final_answer": "4"})


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(["hello"], vocab_size=280, max_context=256)


def test_episodes_without_a_reward_are_judged_and_a_judge_that_fails_is_no_zero(
    tokenizer: Any, grading: Any, tmp_path: Path
) -> None:
    grader = grading("Score: 5", 400)
    (scored,) = Run(tokenizer, judge=made(tmp_path, "llm", **grader.settings)).play(Answers)
    assert scored.status == "ok" and scored.rewards == {"P1": 0.5} and scored.is_success is False
    (lost,) = Run(tokenizer, judge=made(tmp_path / "other", "llm", **grader.settings)).play(Answers)
    assert lost.status == "infra_error" and lost.rewards == {} and "busy" in str(lost.error)
    (unjudged,) = Run(tokenizer).play(Answers)
    assert unjudged.status == "infra_error" and "no judge is configured" in str(unjudged.error)
