"""Rewards of single replies: given through the tuner, kept with the call, part of what the agent got."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from recipes.small_models.tokenizer import train_tokenizer
from tests.episodes import ASK, Program, Run, by_agentscope, by_sdk, by_url
from transformers import PreTrainedTokenizerBase

from ajet.analysis.frames import read_calls, read_texts
from ajet.chat.types import ChatReply, ChatRequest
from ajet.errors import PolicyError, WorkflowError
from ajet.records import EpisodeGroup, Task
from ajet.rollout.event_loop import RolloutLoop
from ajet.rollout.judges.base import BaseJudge
from ajet.tracking.metrics import episode_metrics
from ajet.tracking.store import TrajectoryStore
from ajet.tracking.transcript import Transcript
from ajet.tuner import AjetTuner
from ajet.view.conversation import turns_of
from ajet.workflow import Workflow, WorkflowOutput, WorkflowTask


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(["hello"], vocab_size=280, max_context=256)


@pytest.fixture
def run(tokenizer: PreTrainedTokenizerBase) -> Any:
    made = Run(tokenizer)
    yield made
    made.endpoint.close()


@pytest.mark.parametrize("ask", [by_agentscope, by_sdk, by_url])
def test_a_reward_goes_to_the_reply_that_the_agent_has_just_received(run: Run, ask: Any) -> None:
    async def program(tuner: AjetTuner) -> None:
        for value in (0.5, -0.25, 2.0):
            said = ask(tuner)
            if not isinstance(said, str):
                await said
            tuner.add_reward(value, agent_name="P1")
        tuner.add_reward(1, agent_name="P1")

    episode = run.one(program, own_thread=ask is by_url)
    assert episode.error is None
    assert [call.reward for call in episode.calls] == [0.5, -0.25, 3.0]
    # The episode itself gave 1.
    assert episode.rewards == {"P1": 4.25} and episode.tag_rewards() == {"seer": 4.25} and episode.score == 4.25
    metrics = episode_metrics([EpisodeGroup(task=run.task, episodes=(episode,))])
    assert metrics["reward/seer/mean"] == 4.25 and metrics["reward/seer/per_call_mean"] == pytest.approx(3.25 / 3)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e39, "1", None])
def test_what_is_no_finite_number_is_refused(run: Run, value: Any) -> None:
    async def program(tuner: AjetTuner) -> None:
        await by_sdk(tuner)
        tuner.add_reward(value, agent_name="P1")

    episode = run.one(program)
    assert episode.status == "infra_error" and f"add_reward: {value!r} is not a finite number" in str(episode.error)


def test_an_agent_without_a_reply_and_one_that_is_not_there_are_named(run: Run) -> None:
    async def program(tuner: AjetTuner) -> list[str]:
        tuner.as_raw_openai_sdk_client(agent_name="P1", target_tag="seer")
        said = []
        for name in ("P1", "P2", None):
            with pytest.raises(WorkflowError) as error:
                tuner.add_reward(1.0, agent_name=name)
            said.append(str(error.value))
        return said

    said = run.one(program).metadata["said"]
    assert said == [
        "add_reward: agent 'P1' has not received a reply yet that could be rewarded.",
        "add_reward: no agent is called 'P2'; this episode has 'P1'.",
        "add_reward: no agent is called 'agent'; this episode has 'P1'.",
    ]


class Says:
    async def chat(self, request: ChatRequest) -> ChatReply:
        return ChatReply(content="I pass.")


def test_agents_that_are_not_trained_may_be_rewarded_and_get_nothing(tokenizer: PreTrainedTokenizerBase) -> None:
    run = Run(tokenizer, opponent=lambda name, tag, rng: Says())

    async def program(tuner: AjetTuner) -> None:
        other = tuner.as_raw_openai_sdk_client(agent_name="P2", target_tag="witch")
        await by_sdk(tuner)
        await other.chat.completions.create(messages=ASK, model="any")
        tuner.add_reward(1.0, agent_name="P1")
        tuner.add_reward(1.0, agent_name="P2")

    episode = run.one(program, trainable_targets=["seer"])
    assert episode.error is None and episode.rewards == {"P1": 2.0}
    assert [(call.agent_name, call.reward) for call in episode.calls] == [("P1", 1.0), ("P2", 0.0)]


def test_a_fault_of_the_policy_keeps_what_its_replies_were_given(run: Run) -> None:
    async def program(tuner: AjetTuner) -> None:
        await by_sdk(tuner)
        tuner.add_reward(0.25, agent_name="P1")
        raise PolicyError("it gave up")

    episode = run.one(program)
    assert episode.status == "policy_error" and episode.rewards == {"P1": 0.25}


def test_each_attempt_starts_without_rewards(run: Run) -> None:
    attempts: list[Workflow] = []

    async def program(tuner: AjetTuner) -> None:
        await by_sdk(tuner)
        tuner.add_reward(1.0, agent_name="P1")
        if len(attempts) == 1:
            raise RuntimeError("lost")

    def make() -> Workflow:
        attempts.append(Program(program=program))
        return attempts[-1]

    scheduler = replace(run.scheduler(make), max_retries=1)
    with asyncio.Runner(loop_factory=RolloutLoop) as loop:
        (group,) = loop.run(scheduler.collect([run.task], group_size=1, stream="train"))
    (episode,) = group.episodes
    assert len(attempts) == 2 and episode.num_attempts == 2 and episode.rewards == {"P1": 2.0}


class One(BaseJudge):
    def compute_reward(self, workflow_task: WorkflowTask, workflow_output: WorkflowOutput) -> Any:
        return 10.0, True


def test_a_judges_reward_is_the_episodes(tokenizer: PreTrainedTokenizerBase) -> None:
    run = Run(tokenizer, judge=One(None))

    class Judged(Workflow):
        async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
            await by_sdk(tuner)
            tuner.add_reward(0.5, agent_name="P1")
            return WorkflowOutput()

    (episode,) = run.play(Judged)
    assert episode.rewards == {"P1": 10.5}


def test_files_and_the_viewer_show_what_a_reply_was_given(run: Run, tmp_path: Path) -> None:
    async def program(tuner: AjetTuner) -> None:
        await by_sdk(tuner)
        await by_sdk(tuner)
        tuner.add_reward(0.5, agent_name="P1")

    group = EpisodeGroup(task=Task(task_id="t"), episodes=(run.one(program),))
    said: list[str] = []
    Transcript(tmp_path / "transcript.txt", said.append).episode(group.episodes[0])
    assert "reward P1 1.5" in said[0] and said[1] == "  rewards of single replies, part of these: #1 P1 0.5"
    path = TrajectoryStore(tmp_path).write([group], {}, step=0, split="train")
    calls = read_calls([path])
    assert calls["call_reward"].tolist() == [0.0, 0.5] and calls["reward"].tolist() == [1.5, 1.5]
    assert [turn.call_reward for turn in turns_of(read_texts([path], task="t", repeat=0))] == [0.0, 0.5]
