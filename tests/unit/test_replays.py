"""Episodes that are played again for a credit rule: what stands, what is drawn anew, what is rewarded and refused."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from recipes.small_models.tokenizer import train_tokenizer
from tests.episodes import Run, Share
from transformers import PreTrainedTokenizerBase

from ajet.chat.renderer import ChatRenderer
from ajet.chat.types import ChatReply, ChatRequest
from ajet.config.groups import EvalConfig, RolloutConfig
from ajet.engine.scripted import ScriptedEngine
from ajet.errors import WorkflowError
from ajet.records import Episode, Replay, ReplayRequest, Task
from ajet.rollout.agent_model import EngineReplies
from ajet.rollout.event_loop import RolloutLoop
from ajet.rollout.runtime import RolloutRuntime
from ajet.rollout.scheduler import RolloutScheduler, require_usable_replays
from ajet.tracking.console import Display
from ajet.tracking.metrics import replay_metrics
from ajet.train.clock import PhaseClock
from ajet.train.play import Play
from ajet.train.ranks import ALONE, Ranks
from ajet.tuner import AjetTuner
from ajet.workflow import Workflow, WorkflowOutput, WorkflowTask


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(["Speak after hm."], vocab_size=280, max_context=256)


class Round(Workflow):
    """A speaks, then B to what A said, then C to nothing; A is paid 1 where its reply is `hm`, others 2 and 3."""

    target_tags: ClassVar[tuple[str, ...]] = ("a", "b", "c")
    opening: Callable[[], str] = lambda: "Speak"

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        said = [await self._ask(tuner, "a", self.opening())]
        tuner.add_reward(0.5, "a")
        said.append(await self._ask(tuner, "b", f"after {said[0]}"))
        said.append(await self._ask(tuner, "c", "after"))
        reward = {"a": float(said[0] == "hm"), "b": 2.0, "c": 3.0}
        return WorkflowOutput(reward=reward, metadata={"said": said})

    async def _ask(self, tuner: AjetTuner, name: str, text: str) -> str:
        client = tuner.as_raw_openai_sdk_client(agent_name=name, target_tag=name)
        answer = await client.chat.completions.create(model="policy", messages=[{"role": "user", "content": text}])
        return str(answer.choices[0].message.content)


class Hm:
    """An opponent of one word."""

    async def chat(self, request: ChatRequest) -> ChatReply:
        return ChatReply(content="hm")


def rounds(tokenizer: Any, **fields: Any) -> RolloutScheduler:
    return Run(tokenizer, opponent=lambda *_: Hm()).scheduler(lambda: Round(**fields))


def played_twice(rollouts: RolloutScheduler, **change: Any) -> tuple[Episode, Replay]:
    """An episode, and what came of it with a change."""

    async def both() -> tuple[Episode, Replay]:
        (group,) = await rollouts.collect([Task(task_id="t")], group_size=1, stream="train/0")
        (episode,) = group.episodes
        (again,) = await rollouts.replay([ReplayRequest(episode=episode, **change)], stream="train/0")
        return episode, again

    with asyncio.Runner(loop_factory=RolloutLoop) as loop:
        return loop.run(both())


def texts(episode: Episode) -> list[str]:
    return list(episode.metadata["said"])


def test_a_replaced_role_is_played_by_the_opponent_and_rewarded_all_the_same(tokenizer: Any) -> None:
    first, again = played_twice(rounds(tokenizer), replaced_tag="a")
    assert first.rewards == {"a": 0.5, "b": 2.0, "c": 3.0} and texts(first)[0] != "hm"
    assert again.usable and again.episode.rewards == {"a": 1.5, "b": 2.0, "c": 3.0}
    assert [call.trained for call in again.episode.calls] == [False, True, True]
    # B heard something else and draws anew; C did not, and says what it has said.
    assert texts(again.episode)[1] != texts(first)[1] and texts(again.episode)[2] == texts(first)[2]
    assert again.episode.calls[2].logprobs == first.calls[2].logprobs
    assert again.num_given == 1 and again.num_sampled_tokens == len(again.episode.calls[1].sampled_ids)


def test_a_model_with_the_policys_weights_gives_another_reply_in_its_place(tokenizer: Any) -> None:
    # With the seed of the reply that it replaces it would give that one, and the baseline would know it.
    engine, renderer = ScriptedEngine(len(tokenizer), max_context=256, seed=1), ChatRenderer(tokenizer)
    frozen: Any = EngineReplies(engine=engine, renderer=renderer, temperature=1.0, max_tokens=12)
    first, again = played_twice(Run(tokenizer, opponent=lambda *_: frozen).scheduler(Round), replaced_tag="a")
    assert texts(again.episode)[0] != texts(first)[0] and texts(again.episode)[2] == texts(first)[2]
    assert again.num_sampled_tokens == sum(len(call.sampled_ids) for call in again.episode.calls[:2])


def test_what_came_before_a_replaced_role_stands(tokenizer: Any) -> None:
    first, again = played_twice(rounds(tokenizer), replaced_tag="b")
    assert texts(again.episode) == [texts(first)[0], "hm", texts(first)[2]]
    assert again.num_given == 2 and again.num_sampled_tokens == 0


def test_a_call_is_drawn_anew_and_only_what_heard_of_it(tokenizer: Any) -> None:
    first, again = played_twice(rounds(tokenizer), resampled_call=0)
    assert again.usable and all(call.trained for call in again.episode.calls)
    assert [a != b for a, b in zip(texts(again.episode), texts(first), strict=True)] == [True, True, False]
    _, other = played_twice(rounds(tokenizer), resampled_call=0, draw=1)
    assert texts(other.episode)[0] != texts(again.episode)[0]
    _, same = played_twice(rounds(tokenizer), resampled_call=0)
    assert same.episode.calls == again.episode.calls


def test_a_workflow_that_asks_otherwise_the_second_time_is_not_reproduced(tokenizer: Any) -> None:
    count = itertools.count()
    rollouts = rounds(tokenizer, opening=lambda: f"Speak {next(count)}")
    _, again = played_twice(rollouts, replaced_tag="c")
    assert again.episode.usable and not again.usable
    with pytest.raises(WorkflowError, match=r"None of 1 replays .* the workflow is not reproducible"):
        require_usable_replays([again])
    # Nobody knows what a replaced role would have been asked: its own requests are not compared.
    _, again = played_twice(rollouts, replaced_tag="a")
    assert again.usable


def test_a_replay_that_fails_is_lost_and_not_the_episode(tokenizer: Any) -> None:
    openings = iter(["Speak"])
    first, again = played_twice(rounds(tokenizer, opening=lambda: next(openings)), replaced_tag="a")
    assert first.usable and not again.usable and again.episode.status == "infra_error"
    with pytest.raises(WorkflowError, match=r"None of 1 replays .* can be used"):
        require_usable_replays([again])
    require_usable_replays([again, replace(again, episode=first, is_reproduced=True)])
    require_usable_replays([])


class Told(Display):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


class OneTask:
    def train_tasks(self, step: int, num_tasks: int) -> list[Task]:
        return [Task(task_id="t")]

    held_out_tasks: Any = None


def test_a_steps_replays_are_counted_timed_and_warned_of_once(tokenizer: Any) -> None:
    # The fifth and sixth time that the workflow is played it begins in another way.
    openings = itertools.cycle(["Speak"] * 4 + ["Hm"] * 2 + ["Speak"] * 2)
    told, clock = Told(), PhaseClock()
    with RolloutRuntime() as runtime:
        play = Play(
            rollout=RolloutConfig(num_tasks=1, group_size=4),
            eval=EvalConfig(),
            total_steps=2,
            tasks=OneTask(),
            runtime=runtime,
            scheduler=rounds(tokenizer, opening=lambda: next(openings)),
            ranks=ALONE,
            display=told,
            clock=clock,
            teaches=lambda group: True,
        )
        assert play.again(0, []) == [] and not clock.step["credit"]
        for step in range(2):
            (group,) = play.training_step(step).groups
            replays = play.again(step, [ReplayRequest(episode=one, resampled_call=2) for one in group.episodes])
            assert sorted(replay.usable for replay in replays) == [False, False, True, True]
            assert [replay.request.episode.repeat for replay in replays] == [0, 1, 2, 3]
            metrics = replay_metrics(replays)
            assert (metrics["credit/replays"], metrics["credit/lost"], metrics["credit/not_reproduced"]) == (4, 0, 2)
            assert metrics["tokens/credit"] == sum(replay.num_sampled_tokens for replay in replays) > 0
    assert len(told.said) == 1 and told.said[0].startswith(
        "warning: 2 of 4 replays cannot be used: the workflow is not"
    )
    assert clock.step["credit"] > 0


def test_several_processes_play_the_replays_that_one_would(tokenizer: Any) -> None:
    rollouts = rounds(tokenizer)
    with asyncio.Runner(loop_factory=RolloutLoop) as loop:
        (group,) = loop.run(rollouts.collect([Task(task_id="t")], group_size=2, stream="train/0"))
    first, second = group.episodes
    requests = [ReplayRequest(episode=first, replaced_tag="a"), ReplayRequest(episode=first, resampled_call=1)]
    requests += [ReplayRequest(episode=second, replaced_tag=tag) for tag in ("a", "b")]
    requests.append(ReplayRequest(episode=second, resampled_call=1))

    def played(ranks: Ranks) -> list[Replay]:
        with RolloutRuntime() as runtime:
            play = Play(
                rollout=RolloutConfig(),
                eval=EvalConfig(),
                total_steps=1,
                tasks=OneTask(),
                runtime=runtime,
                scheduler=rollouts,
                ranks=ranks,
                display=Display(),
                clock=PhaseClock(),
                teaches=lambda group: True,
            )
            return play.again(0, requests)

    def alike(replays: list[Replay]) -> list[Replay]:
        return [replace(each, episode=replace(each.episode, duration_s=0.0)) for each in replays]

    alone = alike(played(ALONE))
    assert [each.request for each in alone] == requests and all(each.usable for each in alone)
    for size in (2, 6):  # of six processes the last has nothing to play
        for rank in range(size):
            assert alike(played(Share(rank=rank, size=size))) == alone[rank::size]
