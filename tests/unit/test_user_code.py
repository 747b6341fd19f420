"""Whatever a user's code raises, returns, swallows or blocks on stays inside its episode."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from recipes.small_models.tokenizer import train_tokenizer
from tests.episodes import Run, by_sdk, by_url
from transformers import PreTrainedTokenizerBase

from ajet.config.root import Config
from ajet.config.user_code.lines import one_line, user_traceback
from ajet.errors import WorkflowError
from ajet.records import Episode
from ajet.rollout.judges.base import BaseJudge
from ajet.rollout.runtime import RolloutRuntime
from ajet.tracking.metrics import episode_metrics
from ajet.tuner import AjetTuner
from ajet.workflow import Workflow, WorkflowOutput, WorkflowTask

Act = Callable[[WorkflowOutput], Any]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(["hello"], vocab_size=280, max_context=256)


class Odd(Workflow):
    """Speaks once; then `act`, which may be asynchronous, does something odd, in the first episode of a group only."""

    act: Act
    by_thread: bool = False

    def model_post_init(self, context: Any) -> None:
        self.own_thread = self.by_thread  # the code names a URL either way

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        if self.by_thread:
            by_url(tuner)
        else:
            await by_sdk(tuner)
        output = WorkflowOutput(reward=float(workflow_task.repeat))
        if workflow_task.repeat == 0:
            returned = self.act(output)
            if asyncio.iscoroutine(returned):
                await returned
        return output


def play(run: Run, make: Callable[[], Workflow], *, group_size: int = 2) -> tuple[Episode, ...]:
    """The group's episodes, on the loop that training has."""
    with RolloutRuntime() as runtime:
        (group,) = runtime.run(run.scheduler(make).collect([run.task], group_size=group_size, stream="train"))
    run.endpoint.close()
    return group.episodes


def raises(error: BaseException) -> Act:
    def act(output: WorkflowOutput) -> None:
        raise error

    return act


def raises_in_a_task(error: BaseException) -> Act:
    async def fails() -> None:
        raise error

    async def act(output: WorkflowOutput) -> None:
        await asyncio.create_task(fails())

    return act


def raises_in_a_task_of_its_own(error: BaseException) -> Act:
    async def fails() -> None:
        raise error

    async def act(output: WorkflowOutput) -> None:
        await asyncio.gather(fails(), asyncio.sleep(0.05))

    return act


async def cancels_its_own_task(output: WorkflowOutput) -> None:
    task = asyncio.create_task(asyncio.sleep(100))
    task.cancel()
    await task


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Exiting(Exception):
    def __str__(self) -> str:
        sys.exit(0)


class Interrupting(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt

    __repr__ = __str__


def without_name() -> BaseException:
    class Nameless(type):
        def __getattribute__(cls, name: str) -> Any:
            return sys.exit(0) if name in ("__name__", "__qualname__") else super().__getattribute__(name)

    class WithoutName(Exception, metaclass=Nameless):
        pass

    return WithoutName("hi")


def of_no_class() -> BaseException:
    class OfNoClass(Exception):
        @property  # type: ignore[misc]
        def __class__(self) -> Any:
            sys.exit(0)

    return OfNoClass("hi")


def without_cause() -> BaseException:
    class WithoutCause(Exception):
        @property
        def __cause__(self) -> Any:  # type: ignore[override]
            sys.exit(0)

    return WithoutCause("hi")


class ExitsWhenShown:
    def __repr__(self) -> str:
        sys.exit(0)


@pytest.mark.parametrize("by_thread", [False, True])
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Exiting, "Exiting: its message cannot be read: __str__ raised SystemExit ("),
        (Interrupting, "Interrupting: its message cannot be read: __str__ raised KeyboardInterrupt ("),
        (lambda: SystemExit(ExitsWhenShown()), "SystemExit: its message cannot be read: __str__ raised SystemExit ("),
        (without_name, "WithoutName: hi ("),
        (of_no_class, "OfNoClass: "),
        (without_cause, "WithoutCause: it cannot be read"),
    ],
)
def test_an_exception_that_raises_when_it_is_read_is_a_failure_of_its_episode(
    make: Callable[[], BaseException], words: str, by_thread: bool, tokenizer: Any
) -> None:
    error = make()
    lost, other = play(Run(tokenizer), lambda: Odd(act=raises(error), by_thread=by_thread))
    assert lost.status == "infra_error" and str(lost.error).startswith(words)
    assert other.status == "ok"
    assert "Traceback" in user_traceback(error) or user_traceback(error) == one_line(error)


def test_a_chain_of_causes_longer_than_python_recurses_is_told() -> None:
    error = ValueError(0)
    for number in range(1, 3000):
        cause, error = error, ValueError(number)
        error.__cause__ = cause
    assert user_traceback(error).endswith("ValueError: 2999\n") and one_line(error) == "ValueError: 2999"


@pytest.mark.parametrize("by_thread", [False, True])
@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda output: sys.exit(0), "SystemExit: 0 ("),
        (raises(KeyboardInterrupt()), "KeyboardInterrupt ("),
        (raises(GeneratorExit()), "GeneratorExit ("),
        (raises(asyncio.CancelledError()), "CancelledError ("),
        (raises(BaseExceptionGroup("several", [SystemExit(1)])), "SystemExit: 1 ("),
        (raises(StopIteration()), "RuntimeError: coroutine raised StopIteration ("),
        (raises(Unspeakable()), "its message cannot be read: __str__ raised RuntimeError ("),
        (raises_in_a_task(SystemExit(0)), "SystemExit: 0 ("),
        (raises_in_a_task(KeyboardInterrupt()), "KeyboardInterrupt ("),
        (raises_in_a_task_of_its_own(SystemExit("bye")), "SystemExit: bye ("),
        (cancels_its_own_task, "CancelledError ("),
    ],
)
def test_whatever_a_program_raises_is_a_failure_of_its_episode(
    act: Act, words: str, by_thread: bool, tokenizer: Any
) -> None:
    lost, other = play(Run(tokenizer), lambda: Odd(act=act, by_thread=by_thread))
    assert lost.status == "infra_error" and not lost.rewards
    assert words in str(lost.error) and "test_user_code.py" in str(lost.error)
    assert other.status == "ok" and other.rewards == {"P1": 1.0}


def test_a_callback_or_a_forgotten_task_that_exits_ends_nothing(tokenizer: Any) -> None:
    async def exits() -> None:
        sys.exit(0)

    kept: list[Any] = []

    async def act(output: WorkflowOutput) -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(sys.exit, 0)
        kept.append(loop.create_task(exits()))
        loop.stop()
        await asyncio.sleep(0.05)

    episodes = play(Run(tokenizer), lambda: Odd(act=act))
    assert [episode.status for episode in episodes] == ["ok", "ok"]
    assert isinstance(kept[0].exception(), SystemExit)


def test_a_program_that_cancels_every_task_is_not_taken_for_ctrl_c(tokenizer: Any) -> None:
    def act(output: WorkflowOutput) -> None:
        for task in asyncio.all_tasks():
            task.cancel()

    with pytest.raises(WorkflowError, match="cancelled tasks that are not its own"):
        play(Run(tokenizer), lambda: Odd(act=act))


async def swallows(output: WorkflowOutput) -> None:
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(1000)


async def swallows_all(output: WorkflowOutput) -> None:
    while True:
        with suppress(BaseException):
            await asyncio.sleep(0.02)


async def closes_slowly(output: WorkflowOutput) -> None:
    try:
        await asyncio.sleep(1000)
    finally:
        await asyncio.sleep(1000)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("act", [swallows, swallows_all, closes_slowly])
def test_a_program_that_outlives_its_cancellation_is_left_behind_and_named(act: Act, tokenizer: Any) -> None:
    said: list[str] = []
    run = Run(tokenizer, timeout_s=3.0, grace_s=0.3, say=said.append)
    lost, other = play(run, lambda: Odd(act=act))
    assert lost.status == "timeout" and "nor 0.3 s after it was cancelled, and left behind" in str(lost.error)
    assert other.status == "ok"
    assert len(said) == 1 and "task t, repeat 0" in said[0] and "left behind" in said[0]
    gc.collect()  # off the loop, where one that swallows everything would never return if it were freed


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_model_that_is_asked_after_the_end_again_and_again_does_not_stop_the_others(tokenizer: Any) -> None:
    class Insists(Workflow):
        async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
            model = tuner.as_agentscope_model(agent_name="P1", target_tag="seer")
            while workflow_task.repeat == 0:
                with suppress(BaseException):
                    await model([{"role": "user", "content": "Speak."}])
            await model([{"role": "user", "content": "Speak."}])
            await asyncio.sleep(1.5)
            return WorkflowOutput(reward=1.0)

    run = Run(tokenizer, timeout_s=0.7, grace_s=0.2, say=lambda text: None)
    statuses = [episode.status for episode in play(run, Insists)]
    assert statuses == ["timeout", "timeout"]


def test_a_blocking_call_that_outlasts_the_timeout_counts_as_one(tokenizer: Any) -> None:
    (lost,) = play(Run(tokenizer, timeout_s=0.5), lambda: Odd(act=lambda output: time.sleep(1.7)), group_size=1)
    assert lost.status == "timeout" and "by a blocking call in one of the programs" in str(lost.error)


def test_a_thread_that_blocks_for_good_is_left_behind_and_named(tokenizer: Any) -> None:
    forever, said = threading.Event(), list[str]()
    run = Run(tokenizer, timeout_s=1.0, grace_s=0.3, say=said.append)
    act = lambda output: forever.wait(30)  # noqa: E731
    lost, other = play(run, lambda: Odd(act=act, by_thread=True))
    forever.set()
    assert (lost.status, other.status) == ("timeout", "ok") and "task t, repeat 0" in said[0]


class Plain(Workflow):
    """No `async`: it may block, ask by URL, or run a loop of its own."""

    way: str

    def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:  # type: ignore[override]
        if self.way == "loop":
            asyncio.run(by_sdk(tuner))
        elif self.way == "old loop":
            asyncio.get_event_loop().run_until_complete(by_sdk(tuner))
        elif self.way == "old loop, closed":
            loop = asyncio.get_event_loop()
            loop.run_until_complete(by_sdk(tuner))
            loop.close()
        elif self.way == "old loop, exit":
            asyncio.get_event_loop().run_until_complete(exits())
        elif self.way == "url":
            by_url(tuner)
        elif self.way == "exit":
            sys.exit(0)
        return WorkflowOutput(reward=1.0, metadata={"thread": threading.current_thread().name})


async def exits() -> None:
    sys.exit(0)


@pytest.mark.parametrize("way", ["nothing", "loop", "old loop", "old loop, closed", "old loop, exit", "url", "exit"])
def test_a_plain_execute_runs_on_a_thread_of_its_own(way: str, tokenizer: Any) -> None:
    (episode,) = play(Run(tokenizer), lambda: Plain(way=way), group_size=1)
    if "exit" in way:
        assert episode.status == "infra_error" and str(episode.error).startswith("SystemExit: 0 (")
    else:
        assert episode.status == "ok", episode.error
        assert episode.metadata["thread"] == "ajet-episode" and len(episode.calls) == (way != "nothing")


@pytest.mark.parametrize("code", [0, 7])
def test_a_child_that_a_program_forks_never_goes_through_the_rest_of_the_run(code: int, tokenizer: Any) -> None:
    def forks(output: WorkflowOutput) -> None:
        child = os.fork()
        if child == 0:
            sys.exit(code)
        output.metadata["code"] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    (episode,) = play(Run(tokenizer), lambda: Odd(act=forks), group_size=1)
    assert episode.status == "ok" and episode.metadata["code"] == code


def test_a_call_that_blocks_the_loop_for_good_is_ended_and_named(tokenizer: Any) -> None:
    said: list[str] = []
    run = Run(tokenizer, timeout_s=1.0, grace_s=0.5)
    with RolloutRuntime(patience_s=1.5, say=said.append) as runtime:
        stuck = run.scheduler(lambda: Odd(act=lambda output: threading.Event().wait())).collect(
            [run.task], group_size=2, stream="train"
        )
        (group,) = runtime.run(stuck)
    run.endpoint.close()
    assert [episode.status for episode in group.episodes].count("timeout") >= 1
    assert len(said) == 1 and f"{__file__}:" in said[0]


class Judge(BaseJudge):
    def __init__(self, answer: Callable[[], Any]) -> None:
        super().__init__(Config())
        self._answer = answer

    def compute_reward(self, workflow_task: WorkflowTask, workflow_output: WorkflowOutput) -> Any:
        return self._answer()


async def judges_forever() -> None:
    await swallows(WorkflowOutput())


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (lambda: sys.exit(0), "infra_error", "SystemExit: 0"),
        (judges_forever, "timeout", "left behind"),
        (lambda: time.sleep(1.5), "timeout", "not done after 1 s"),
        (lambda: {"seer": "good"}, "infra_error", "reward"),
        (lambda: 10**400, "infra_error", "OverflowError"),
        (lambda: np.float32(0.5), "ok", "None"),
    ],
)
def test_a_judge_is_held_to_the_same(answer: Any, status: str, words: str, tokenizer: Any) -> None:
    run = Run(tokenizer, timeout_s=1.0, grace_s=0.2, say=lambda text: None, judge=Judge(answer))

    def unjudged(output: WorkflowOutput) -> None:
        output.reward = None

    (episode,) = play(run, lambda: Odd(act=unjudged), group_size=1)
    assert episode.status == status and words in str(episode.error)


def test_an_environment_that_exits_or_does_not_close_is_a_failure_of_its_episode(tokenizer: Any) -> None:
    class Door:
        async def close(self) -> None:
            await swallows(WorkflowOutput())

    def exits(task: Any) -> Any:
        sys.exit(0)

    (made,) = play(Run(tokenizer, make_env=exits), lambda: Odd(act=lambda output: None), group_size=1)
    assert made.status == "infra_error" and "SystemExit" in str(made.error)
    run = Run(tokenizer, timeout_s=1.0, grace_s=0.2, say=lambda text: None, make_env=lambda task: Door())
    (open_,) = play(run, lambda: Odd(act=lambda output: None), group_size=1)
    assert open_.status == "timeout"


def test_a_workflow_that_cannot_be_made_is_a_failure_of_its_episode(tokenizer: Any) -> None:
    def make() -> Workflow:
        sys.exit(0)

    (lost,) = play(Run(tokenizer), make, group_size=1)
    assert lost.status == "infra_error" and str(lost.error).startswith("SystemExit: 0")


def test_metrics_that_are_not_finite_are_left_out_and_counted(tokenizer: Any) -> None:
    def act(output: WorkflowOutput) -> None:
        output.log_metrics["score"] = math.nan
        output.log_metrics["huge"] = 1e308
        output.log_metrics["both"] = [math.inf, -math.inf]  # type: ignore[assignment]

    class Scores(Odd):
        async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
            output = await super().execute(workflow_task, tuner)
            output.log_metrics.setdefault("score", np.float32(workflow_task.repeat))  # type: ignore[arg-type]
            return output

    with RolloutRuntime() as runtime:
        run = Run(tokenizer)
        plays = run.scheduler(lambda: Scores(act=act)).collect([run.task], group_size=3, stream="train")
        metrics = episode_metrics(runtime.run(plays))
    assert metrics["workflow/score"] == 1.5 and metrics["workflow/score/not_finite"] == 1
    assert "workflow/huge" not in metrics and metrics["workflow/huge/not_finite"] == 1
    assert "workflow/both" not in metrics and metrics["workflow/both/not_finite"] == 1
