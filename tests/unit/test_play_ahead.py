"""Steps are played ahead of their turn, while earlier ones are trained, and no further ahead than was allowed."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from recipes.small_models.tokenizer import train_tokenizer
from tests.episodes import ASK, Program, Run
from transformers import PreTrainedTokenizerBase

from ajet.config.groups import EvalConfig, RolloutConfig
from ajet.engine.scripted import ScriptedEngine
from ajet.errors import TrainingError, UserInterrupt
from ajet.records import EpisodeGroup, Task
from ajet.rollout.runtime import Interrupted, RolloutRuntime
from ajet.tracking.console import Display
from ajet.train.clock import PhaseClock
from ajet.train.play import Play
from ajet.train.ranks import ALONE
from ajet.tuner import AjetTuner

TRAINING_S = 0.2
PATIENCE_S = 20.0
"""For what a busy machine takes its time over."""


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(["Speak."], vocab_size=280, max_context=256)


class Numbered:
    """Tasks that are named by their step."""

    def train_tasks(self, step: int, num_tasks: int) -> list[Task]:
        return [Task(task_id=f"{step}/{i}") for i in range(num_tasks)]

    def held_out_tasks(self, num_tasks: int, *, offset: int = 0) -> list[Task]:
        return [Task(task_id=f"held out/{i}") for i in range(num_tasks)]


async def ask(tuner: AjetTuner) -> None:
    await tuner.as_raw_openai_sdk_client(agent_name="P1", target_tag="seer").chat.completions.create(
        model="policy", messages=ASK
    )


@contextmanager
def playing(
    tokenizer: PreTrainedTokenizerBase,
    engine: ScriptedEngine,
    program: Callable[[AjetTuner], object] = ask,
    *,
    ahead: int,
    total_steps: int = 5,
) -> Iterator[Play]:
    """A run's play, `ahead` steps at most."""
    run = Run(tokenizer, engine=engine)
    with RolloutRuntime() as runtime:
        yield Play(
            rollout=RolloutConfig(num_tasks=2, group_size=2, max_steps_off_policy=ahead),
            eval=EvalConfig(num_tasks=2),
            total_steps=total_steps,
            tasks=Numbered(),
            runtime=runtime,
            scheduler=run.scheduler(lambda: Program(program=program)),
            ranks=ALONE,
            display=Display(),
            clock=PhaseClock(),
            teaches=bool,
        )


def scripted(tokenizer: PreTrainedTokenizerBase) -> ScriptedEngine:
    return ScriptedEngine(len(tokenizer), max_context=256, seed=1)


def versions(groups: list[EpisodeGroup]) -> list[list[int]]:
    """Of each episode's calls."""
    return [[call.policy_version for call in e.calls] for group in groups for e in group.episodes]


def updated(engine: ScriptedEngine, version: int) -> Callable[[], None]:
    """Training that takes a while, and then changes the weights."""

    def train() -> None:
        time.sleep(TRAINING_S)
        engine.policy_version = version

    return train


def until_played(is_played: Callable[[], bool], engine: ScriptedEngine, version: int) -> Callable[[], None]:
    """Training that changes the weights once what is begun has been asked for with those of before."""

    def train() -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not is_played() and time.monotonic() < deadline:
            time.sleep(0.01)
        engine.policy_version = version

    return train


@pytest.mark.parametrize("ahead", [1, 2, 3])
def test_a_step_is_begun_as_many_updates_early_as_may_be(tokenizer: PreTrainedTokenizerBase, ahead: int) -> None:
    engine, num_asked = scripted(tokenizer), 0

    async def counted(tuner: AjetTuner) -> None:
        nonlocal num_asked
        await ask(tuner)
        num_asked += 1

    def is_due(num: int) -> bool:
        return num_asked >= num

    with playing(tokenizer, engine, counted, ahead=ahead) as play:
        for step in range(5):
            groups = play.training_step(step).groups
            assert [group.task.task_id for group in groups] == [f"{step}/0", f"{step}/1"]
            assert versions(groups) == [[max(0, step - ahead)]] * 4
            due = 4 * min(5, step + ahead + 1)
            play.while_training(step, until_played(partial(is_due, due), engine, step + 1))


def test_episodes_that_are_under_way_go_on_with_the_new_weights(tokenizer: PreTrainedTokenizerBase) -> None:
    engine, num_begun, num_done = scripted(tokenizer), 0, 0

    async def asks_again_after_an_update(tuner: AjetTuner) -> None:
        nonlocal num_begun, num_done
        await ask(tuner)
        num_begun += 1
        begun_with, deadline = engine.policy_version, time.monotonic() + 4 * TRAINING_S
        while engine.policy_version == begun_with and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        await ask(tuner)
        num_done += 1

    def is_due() -> bool:
        return num_begun >= 12 if engine.policy_version == 0 else num_done >= 12

    with playing(tokenizer, engine, asks_again_after_an_update, ahead=2, total_steps=3) as play:
        assert versions(play.training_step(0).groups) == [[0, 0]] * 4
        for step in (0, 1):
            play.while_training(step, until_played(is_due, engine, step + 1))
            later = play.training_step(step + 1).groups
        assert versions(later) == [[0, 1]] * 4, "begun while step 0 was trained, and gone on behind its update"


def test_what_ran_beside_training_is_counted_once_in_the_time_of_the_run(tokenizer: PreTrainedTokenizerBase) -> None:
    engine = scripted(tokenizer)

    async def long(tuner: AjetTuner) -> None:
        await ask(tuner)
        await asyncio.sleep(TRAINING_S)

    with playing(tokenizer, engine, long, ahead=1) as play:
        started = time.perf_counter()
        for step in range(3):
            play.clock.next_step()
            play.training_step(step)

            def train(step: int = step) -> None:
                with play.clock.phase("update"):
                    updated(engine, step + 1)()

            play.while_training(step, train)
        wall = time.perf_counter() - started
        assert play.clock.overlap_s > 0.5 * TRAINING_S
        assert sum(play.clock.run.values()) <= wall
        step_s = play.clock.step_metrics(num_episodes=4, num_sampled_tokens=1.0)
        assert step_s["time/rollout"] >= TRAINING_S and step_s["time/step"] < step_s["time/rollout"] + TRAINING_S


def test_nothing_is_played_ahead_where_that_was_not_asked_for(tokenizer: PreTrainedTokenizerBase) -> None:
    with playing(tokenizer, scripted(tokenizer), ahead=0) as play:
        for step in range(2):
            play.training_step(step)
            assert play.clock.overlap_s == 0
            assert play.meanwhile(threading.current_thread) is threading.main_thread()


async def never_ends(tuner: AjetTuner) -> None:
    await ask(tuner)
    await asyncio.sleep(1000)


def ends_only_in_step_0(engine: ScriptedEngine) -> Callable[[AjetTuner], object]:
    num_begun = iter(range(1000))

    async def program(tuner: AjetTuner) -> None:
        await (ask if next(num_begun) < 4 else never_ends)(tuner)

    return program


def test_an_error_of_training_does_not_wait_for_play(tokenizer: PreTrainedTokenizerBase) -> None:
    engine = scripted(tokenizer)

    def fail() -> None:
        raise TrainingError("not finite")

    started = time.monotonic()
    with playing(tokenizer, engine, ends_only_in_step_0(engine), ahead=1) as play:
        play.training_step(0)
        with pytest.raises(TrainingError, match="not finite"):
            play.while_training(0, fail)
    assert time.monotonic() - started < 10


def test_the_first_interrupt_ends_play_and_lets_training_finish(tokenizer: PreTrainedTokenizerBase) -> None:
    engine = scripted(tokenizer)
    with playing(tokenizer, engine, ends_only_in_step_0(engine), ahead=1) as play:
        play.training_step(0)
        threading.Timer(TRAINING_S / 2, os.kill, (os.getpid(), signal.SIGINT)).start()
        play.while_training(0, updated(engine, 1))
        assert engine.policy_version == 1
        with pytest.raises(Interrupted):
            play.training_step(1)


def test_the_second_interrupt_waits_for_nothing(tokenizer: PreTrainedTokenizerBase) -> None:
    engine, over = scripted(tokenizer), threading.Event()

    def wait() -> None:
        over.wait(60)

    def interrupt_twice() -> None:
        for _ in range(2):
            time.sleep(TRAINING_S)
            os.kill(os.getpid(), signal.SIGINT)

    with playing(tokenizer, engine, ends_only_in_step_0(engine), ahead=1) as play:
        play.training_step(0)
        threading.Thread(target=interrupt_twice).start()
        with pytest.raises(UserInterrupt):
            play.while_training(0, wait)
    over.set()
