"""`workflow.env`: each attempt has an environment of its own, open for workflow and judge, closed after them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ajet.schema.task import WorkflowOutput, WorkflowTask
from recipes.small_models.tokenizer import train_tokenizer
from tests.episodes import Run, by_url
from transformers import PreTrainedTokenizerBase

from ajet.assemble.players import environment_maker
from ajet.config.compose import compose
from ajet.config.root import Config
from ajet.errors import ConfigError, PolicyError
from ajet.records import Task
from ajet.rollout.judges.base import BaseJudge
from ajet.tuner import AjetTuner
from ajet.workflow import Workflow

CORRIDOR = """
class Corridor:
    def __init__(self, length):
        self.left = length

    def step(self, action):
        self.left -= 1
        return str(self.left), 0.0, self.left == 0, {}

def corridor(task):
    return Corridor(task.metadata["length"])

async def later(task):
    return corridor(task)

number = 3
"""


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(["hello"], vocab_size=280, max_context=256)


class Door:
    """An environment that keeps track of itself; closing is a coroutine, as for a remote one."""

    def __init__(self, task: Task, doors: list[Door]) -> None:
        self.task_id = task.task_id
        self.is_open = True
        doors.append(self)

    async def close(self) -> None:
        assert self.is_open
        self.is_open = False


class Walks(Workflow):
    fails: bool = False

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        assert workflow_task.gym_env.is_open and workflow_task.gym_env.task_id == workflow_task.task.task_id
        said = by_url(tuner)  # on a thread of its own from the start: no episode begins twice, with another door
        if self.fails:
            raise PolicyError("against the wall")
        return WorkflowOutput(reward=None, metadata={"said": said})


class AsksTheDoor(BaseJudge):
    def compute_reward(self, workflow_task: WorkflowTask, workflow_output: WorkflowOutput) -> tuple[float, bool]:
        return float(workflow_task.gym_env.is_open), True


def test_each_attempt_has_one_of_its_own_that_is_closed_once_the_episode_is_judged(tokenizer: Any) -> None:
    doors: list[Door] = []
    run = Run(tokenizer, judge=AsksTheDoor(Config()), make_env=lambda task: Door(task, doors))
    episodes = run.play(Walks, group_size=2)
    assert [episode.rewards for episode in episodes] == [{"P1": 1.0}] * 2, [episode.error for episode in episodes]
    assert len(doors) == 2 and not any(door.is_open for door in doors)
    doors.clear()
    (failed,) = run.play(lambda: Walks(fails=True))
    assert failed.status == "policy_error" and [door.is_open for door in doors] == [False]


def test_an_environment_that_cannot_be_made_is_a_failure_of_the_infrastructure(tokenizer: Any) -> None:
    def no_server(task: Task) -> Any:
        raise ConnectionError("no server")

    (episode,) = Run(tokenizer, make_env=no_server).play(Walks)
    assert episode.status == "infra_error" and episode.rewards == {}
    assert str(episode.error).startswith("ConnectionError: no server (") and __file__ in str(episode.error)


@pytest.mark.parametrize("name", ["corridor", "later"])
def test_the_config_names_the_function(name: str, tmp_path: Path, tokenizer: Any) -> None:
    (tmp_path / "my_env.py").write_text(CORRIDOR)
    overrides = ["workflow=signals", f"workflow.env='{tmp_path}/my_env.py->{name}'"]
    make_env = environment_maker(compose(overrides, run_dir=tmp_path))

    class Steps(Workflow):
        async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
            done, seen = False, []
            while not done:
                observation, _, done, _ = workflow_task.gym_env.step("on")
                seen.append(observation)
            return WorkflowOutput(reward=1.0, metadata={"seen": seen})

    (episode,) = Run(tokenizer, make_env=make_env).play(Steps, task=Task(task_id="t", metadata={"length": 3}))
    assert episode.metadata == {"seen": ["2", "1", "0"]}


def test_a_setting_that_names_no_function_is_refused(tmp_path: Path) -> None:
    (tmp_path / "my_env.py").write_text(CORRIDOR)
    overrides = ["workflow=signals", f"workflow.env='{tmp_path}/my_env.py->number'"]
    with pytest.raises(ConfigError, match=r"workflow\.env=.*->number is neither a function nor a class"):
        environment_maker(compose(overrides, run_dir=tmp_path))
