"""Which episodes run on a thread of their own: known before they begin, so that none begins twice."""

from __future__ import annotations

import functools
import threading
import types
from collections.abc import Callable
from typing import Any

import pytest
from recipes.small_models.tokenizer import train_tokenizer
from tests import episodes
from tests.episodes import Program, Run, by_sdk, by_url
from transformers import PreTrainedTokenizerBase

from ajet.errors import ConfigError
from ajet.rollout.own_thread import MOST_HELD, names_asking, needs_own_thread
from ajet.tuner import AjetTuner
from ajet.workflow import Workflow, WorkflowOutput, WorkflowTask
from ajet.workflows import builtin_workflows
from ajet.workflows.loading import load_workflow


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(["hello"], vocab_size=280, max_context=256)


class Helper:
    """An agent of the user's own, asked for a URL three steps away from `execute`."""

    def run(self, tuner: AjetTuner) -> str:
        return self._ask(tuner)

    def _ask(self, tuner: AjetTuner) -> str:
        return by_url(tuner)


def reached_by_name(tuner: AjetTuner) -> Any:
    return getattr(tuner, "as_oai_baseurl_apikey")()  # noqa: B009


def reached_through_a_module(tuner: AjetTuner) -> str:
    return episodes.by_url(tuner)


def reached_in_a_nested_function(tuner: AjetTuner) -> Any:
    return [(lambda: tuner.as_oai_baseurl_apikey())() for _ in range(1)]


def reached_through_an_object(tuner: AjetTuner) -> str:
    return AGENTS["solver"].run(tuner)


def reached_through_a_decorator(tuner: AjetTuner) -> str:
    return str(wrapped(tuner))


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def outer(*arguments: Any) -> Any:
        return function(*arguments)

    return outer


AGENTS = {"solver": Helper()}
wrapped = decorated(functools.partial(by_url))


@pytest.mark.parametrize(
    "program",
    [
        by_url,
        Helper,
        reached_by_name,
        reached_through_a_module,
        reached_in_a_nested_function,
        reached_through_an_object,
        reached_through_a_decorator,
    ],
)
def test_code_that_asks_for_a_url_is_seen_to(program: Any) -> None:
    assert names_asking([program])


def test_code_that_does_not_ask_for_a_url_is_not_taken_for_it() -> None:
    assert not names_asking([by_sdk, Workflow, threading, None, 3, {"a": [by_sdk]}])
    assert not names_asking([load_workflow(name) for name in builtin_workflows()])


def test_code_of_installed_packages_is_looked_at_only_if_it_is_the_workflows_own_package() -> None:
    code = compile("def ask(tuner):\n    return tuner.as_oai_baseurl_apikey()", functools.__file__, "exec")
    module: dict[str, Any] = {"__name__": "my_package.agents"}
    exec(code, module)
    assert isinstance(module["ask"], types.FunctionType)
    assert not names_asking([module["ask"]]) and names_asking([module["ask"]], package="my_package")


class Told(Workflow):
    """Asks for a URL behind what no reader of code sees through."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        ask = getattr(tuner, "_".join(["as", "oai", "baseurl", "apikey"]))
        ask(agent_name="P1", target_tag="seer")
        return WorkflowOutput(reward=1.0, metadata={"thread": threading.current_thread().name})


class ToldSo(Told):
    own_thread: bool | None = True


def test_a_url_that_nothing_announced_is_refused_with_what_to_write(tokenizer: Any) -> None:
    run = Run(tokenizer)
    with pytest.raises(ConfigError, match=r"own_thread: bool \| None = True.*workflow\.params\.own_thread=true"):
        run.play(Told)
    for make in (ToldSo, lambda: Told(own_thread=True)):
        (episode,) = run.play(make)
        assert episode.status == "ok" and episode.metadata["thread"] == "ajet-episode", episode.error
    run.endpoint.close()


def test_what_a_user_says_wins_over_what_the_code_names() -> None:
    assert needs_own_thread(Program(program=by_url), {}) and not needs_own_thread(Program(program=by_sdk), {})
    assert not needs_own_thread(Program(program=by_url, own_thread=False), {})
    assert needs_own_thread(Program(program=by_sdk, own_thread=True), {Program: False})


class Team(Program):
    agents: tuple[Any, ...] = ()


def test_code_is_read_once_a_run_and_what_a_user_says_each_time() -> None:
    known: dict[type[Workflow], bool] = {}
    assert needs_own_thread(Team(program=by_sdk, agents=(by_url,)), known) and known == {Team: True}
    assert needs_own_thread(Team(program=by_sdk), known)
    assert not needs_own_thread(Team(program=by_sdk, own_thread=False), known) and known == {Team: True}


def test_data_of_any_size_is_looked_at_up_to_a_bound_and_hides_no_agent() -> None:
    cells = [[[row, column] for column in range(300)] for row in range(300)]
    assert names_asking([cells, {"solver": [by_url]}]) and names_asking([{"solver": [by_url]}, cells])
    assert not names_asking([cells, by_sdk])
    deep: Any = by_url
    for _ in range(MOST_HELD + 1):
        deep = [deep]
    assert not names_asking([deep])


def test_no_episode_begins_twice(tokenizer: Any) -> None:
    begun: list[str] = []

    def program(tuner: AjetTuner) -> str:
        begun.append(threading.current_thread().name)
        return by_url(tuner)

    run = Run(tokenizer)
    run.play(lambda: Program(program=program), group_size=6)
    run.endpoint.close()
    assert begun == ["ajet-episode"] * 6
