"""Episodes: every outcome is data, retries are counted, and one seed plays alike every time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from pydantic import Field, ValidationError
from recipes.small_models.tokenizer import train_tokenizer
from tests.factories import make_call, make_episode
from transformers import PreTrainedTokenizerBase

from ajet.chat.renderer import ChatRenderer
from ajet.chat.types import ChatModel
from ajet.config.root import Config
from ajet.engine.base import Engine, SamplingRequest
from ajet.engine.scripted import ScriptedEngine
from ajet.errors import ConfigError, EngineLostError, PolicyError, StorageError, WorkflowError
from ajet.records import Completion, Episode, EpisodeGroup, Task
from ajet.rollout.agent_model import EngineReplies, ReplySource
from ajet.rollout.endpoint.endpoint import Endpoint
from ajet.rollout.event_loop import RolloutLoop
from ajet.rollout.opponents.random import RandomPlayer
from ajet.rollout.rewards import rewards_by_agent
from ajet.rollout.runner import EpisodeRunner, RolloutCallbacks
from ajet.rollout.running_episode import Agent
from ajet.rollout.scheduler import RolloutScheduler, require_trained_play, require_usable_play
from ajet.tracking.metrics import episode_metrics
from ajet.tuner import AjetTuner
from ajet.workflow import Workflow, WorkflowOutput, WorkflowTask

TASK = Task(task_id="t", metadata={"random_number": 7})


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(["hello"], vocab_size=280, max_context=256)


class Chatter(Workflow):
    """Two agents who each say something twice, with the tiny sleeps that frameworks make."""

    trainable_targets: list[str] | None = Field(default=["a"])
    own_model: Any = None

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        texts = await asyncio.gather(*(self._talk(tuner, tag) for tag in ("a", "b")))
        return WorkflowOutput(reward={"a": float(len(texts[0]) % 2)}, is_success=True, metadata={"texts": texts})

    async def _talk(self, tuner: AjetTuner, tag: str) -> str:
        model = tuner.as_agentscope_model(agent_name=tag, target_tag=tag, debug_model=self.own_model)
        said = []
        for turn in range(2):
            response = await model([{"role": "user", "content": f"turn {turn}"}])
            await asyncio.sleep(0.001)
            said.append("".join(block["text"] for block in response.content))
        return " ".join(said)


class Failing(Workflow):
    """Fails in the way it is told to."""

    error: Any = None
    sleep_s: float = 0.0
    output: Any = None

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        tuner.as_agentscope_model(agent_name="a", target_tag="a")
        await asyncio.sleep(self.sleep_s)
        if self.error is not None:
            raise self.error
        return self.output  # type: ignore[no-any-return]


def random_player(name: str, tag: str, rng: random.Random) -> ChatModel:
    return RandomPlayer(rng)


def scheduler(
    tokenizer: PreTrainedTokenizerBase,
    make_workflow: Callable[[], Workflow],
    *,
    opponent: Callable[[str, str, random.Random], ChatModel] | None = random_player,
    max_retries: int = 0,
    timeout_s: float = 30.0,
    max_context: int = 256,
    concurrency: int = 3,
    engine: Engine | None = None,
) -> RolloutScheduler:
    policy = EngineReplies(
        engine=engine or ScriptedEngine(len(tokenizer), max_context=max_context, seed=1),
        renderer=ChatRenderer(tokenizer),
        temperature=1.0,
        max_tokens=12,
    )

    def reply_source(agent: Agent) -> ReplySource | None:
        if agent.trained:
            return policy
        return None if opponent is None else opponent(agent.name, agent.target_tag, agent.rng)

    config = Config()
    config.rollout.timeout_s, config.rollout.policy_error_reward = timeout_s, -0.5
    runner = EpisodeRunner(config=config, make_workflow=make_workflow, reply_source=reply_source, endpoint=Endpoint())
    return RolloutScheduler(runner=runner, concurrency=concurrency, max_retries=max_retries)


def collect(rollouts: RolloutScheduler, *, group_size: int = 1) -> list[EpisodeGroup]:
    with asyncio.Runner(loop_factory=RolloutLoop) as runner:
        return runner.run(rollouts.collect([TASK], group_size=group_size, stream="train"))


def one_episode(rollouts: RolloutScheduler) -> Episode:
    (group,) = collect(rollouts)
    return group.episodes[0]


def test_an_episode_records_trained_calls_with_tokens_and_the_others_as_text(tokenizer: Any) -> None:
    episode = one_episode(scheduler(tokenizer, Chatter))
    assert episode.status == "ok" and episode.agent_tags == {"a": "a"} and set(episode.rewards) == {"a"}
    trained = [call for call in episode.calls if call.trained]
    assert [call.agent_name for call in trained] == ["a", "a"]
    assert all(call.sampled_ids and len(call.sampled_ids) == len(call.logprobs) for call in trained)
    others = [call for call in episode.calls if not call.trained]
    assert len(others) == 2 and all(not call.sampled_ids and call.reply for call in others)


def test_one_seed_plays_alike_twice_and_repeats_differ(tokenizer: Any) -> None:
    first = collect(scheduler(tokenizer, Chatter), group_size=5)[0].episodes
    again = collect(scheduler(tokenizer, Chatter), group_size=5)[0].episodes
    assert [e.calls for e in first] == [e.calls for e in again]
    assert len({e.calls[0].sampled_ids for e in first} | {e.calls[1].sampled_ids for e in first}) > 2


def test_a_group_is_told_of_as_soon_as_its_episodes_are_there_and_once(tokenizer: Any) -> None:
    told: list[tuple[str, int]] = []
    started: list[str] = []

    def on_group(group: EpisodeGroup) -> None:
        told.append((group.task.task_id, len(started)))

    class Counted(Chatter):
        async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
            started.append(workflow_task.task_id)
            return await super().execute(workflow_task, tuner)

    rollouts = scheduler(tokenizer, Counted, concurrency=2)
    tasks = [Task(task_id=name) for name in "abc"]
    with asyncio.Runner(loop_factory=RolloutLoop) as runner:
        played = runner.run(
            rollouts.collect_resampled(
                [(task,) for task in tasks], is_enough=bool, group_size=2, stream="train", on_group=on_group
            )
        )
    assert [name for name, _ in told] == ["a", "b", "c"] == [group.task.task_id for (group,) in played]
    assert told[0][1] < 6, "the first while others had not begun"


def test_an_agents_randomness_does_not_depend_on_what_else_runs(tokenizer: Any) -> None:
    alone = collect(scheduler(tokenizer, Chatter, concurrency=1), group_size=3)[0].episodes
    crowd = collect(scheduler(tokenizer, Chatter, concurrency=9), group_size=3)[0].episodes
    ids = [[c.sampled_ids for c in e.calls if c.trained] for e in alone]
    assert ids == [[c.sampled_ids for c in e.calls if c.trained] for e in crowd]


def test_a_policy_error_is_scored_and_not_retried(tokenizer: Any) -> None:
    rollouts = scheduler(tokenizer, lambda: Failing(error=PolicyError("illegal")), max_retries=3)
    episode = one_episode(rollouts)
    assert episode.status == "policy_error" and episode.rewards == {"a": -0.5}
    assert episode.num_attempts == 1 and episode.error is not None and "illegal" in episode.error


def test_any_other_exception_is_retried_then_kept_as_an_infrastructure_failure(tokenizer: Any) -> None:
    episode = one_episode(scheduler(tokenizer, lambda: Failing(error=KeyError("x")), max_retries=2))
    assert episode.status == "infra_error" and not episode.rewards and episode.num_attempts == 3
    assert episode.error is not None and "KeyError" in episode.error and "test_rollout.py" in episode.error


def test_a_slow_episode_times_out(tokenizer: Any) -> None:
    episode = one_episode(scheduler(tokenizer, lambda: Failing(sleep_s=5.0), timeout_s=0.05))
    assert episode.status == "timeout" and not episode.usable


def test_a_retry_that_works_counts_its_attempts(tokenizer: Any) -> None:
    errors = iter([KeyError("first"), None])
    make = lambda: Failing(error=next(errors), output=WorkflowOutput(reward=1.0))  # noqa: E731
    episode = one_episode(scheduler(tokenizer, make, max_retries=2))
    assert episode.status == "ok" and episode.num_attempts == 2 and episode.rewards == {"a": 1.0}


@pytest.mark.parametrize("output", [WorkflowOutput(), WorkflowOutput(reward=float("nan")), {"reward": 1.0}])
def test_an_output_without_a_usable_reward_is_no_reward(tokenizer: Any, output: Any) -> None:
    episode = one_episode(scheduler(tokenizer, lambda: Failing(output=output)))
    assert episode.status == "infra_error" and not episode.rewards


def test_a_setting_that_cannot_work_stops_the_run(tokenizer: Any) -> None:
    with pytest.raises(ConfigError, match="opponent="):
        collect(scheduler(tokenizer, Chatter, opponent=None), group_size=4)


def test_a_file_that_cannot_be_written_stops_the_run_with_its_sentence(tokenizer: Any) -> None:
    def full(episode: Episode) -> None:
        raise StorageError("transcript.txt cannot be written: the disk is full")

    played = scheduler(tokenizer, Chatter)
    told = replace(played.runner, callbacks=RolloutCallbacks(on_episode=full))
    with pytest.raises(StorageError, match="the disk is full"):
        collect(replace(played, runner=told), group_size=4)


def test_a_workflows_own_model_speaks_where_no_opponent_is_set(tokenizer: Any) -> None:
    class Own:
        async def __call__(self, messages: list[dict[str, Any]]) -> Any:
            return type("Response", (), {"content": [{"text": "mine"}]})

    episode = one_episode(scheduler(tokenizer, lambda: Chatter(own_model=Own()), opponent=None))
    assert episode.metadata["texts"][1] == "mine mine"


def test_a_conversation_that_outgrows_the_context_is_counted(tokenizer: Any) -> None:
    episode = one_episode(scheduler(tokenizer, Chatter, max_context=8))
    assert episode.status == "infra_error" and episode.num_context_overflows == 1


@pytest.mark.parametrize(
    ("reward", "expected"),
    [
        (2, {"P1": 2.0, "P2": 2.0}),
        ({"seer": 1.0, "witch": 0.0}, {"P1": 1.0, "P2": 0.0}),
        ({"seer": 1.0, "witch": 0.0, "P2": 0.5}, {"P1": 1.0, "P2": 0.5}),
    ],
)
def test_rewards_are_given_to_all_by_tag_or_by_name(reward: Any, expected: Mapping[str, float]) -> None:
    assert rewards_by_agent(reward, {"P1": "seer", "P2": "witch"}) == expected


def test_a_trained_agent_without_a_reward_is_named() -> None:
    with pytest.raises(WorkflowError, match=r"'P2'.*'witch'"):
        rewards_by_agent({"seer": 1.0}, {"P1": "seer", "P2": "witch"})


class Stubborn(Workflow):
    """Swallows its cancellation, as AgentScope's agents do, and returns a reward all the same."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        tuner.as_agentscope_model(agent_name="a", target_tag="a")
        try:
            await asyncio.sleep(5.0)
        except asyncio.CancelledError:
            asyncio.current_task().uncancel()  # type: ignore[union-attr]
        return WorkflowOutput(reward=1.0, is_success=True)


def test_a_program_that_swallows_its_cancellation_still_timed_out(tokenizer: Any) -> None:
    episode = one_episode(scheduler(tokenizer, Stubborn, timeout_s=0.05))
    assert episode.status == "timeout" and not episode.rewards and episode.is_success is None


class Namesakes(Workflow):
    """Asks for two models without naming them, or for one name with two tags."""

    tags: list[str] | None = None

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        tags: list[str] | list[None] = self.tags or [None, None]
        models = [tuner.as_agentscope_model(target_tag=tag) for tag in tags]
        replies = [await model([{"role": "user", "content": "hello"}]) for model in models]
        return WorkflowOutput(reward=float(len(replies)))


def test_two_agents_of_one_name_do_not_draw_alike(tokenizer: Any) -> None:
    first, second = one_episode(scheduler(tokenizer, Namesakes)).calls
    assert first.prompt_ids == second.prompt_ids and first.sampled_ids != second.sampled_ids


def test_one_name_with_two_tags_is_refused(tokenizer: Any) -> None:
    with pytest.raises(ConfigError, match="'x' and 'y'"):
        collect(scheduler(tokenizer, lambda: Namesakes(tags=["x", "y"])))


def test_a_collection_in_which_every_episode_failed_stops_the_run_with_the_first_error(tokenizer: Any) -> None:
    groups = collect(scheduler(tokenizer, lambda: Failing(error=KeyError("x"))), group_size=2)
    with pytest.raises(WorkflowError, match=r"All 2 episodes failed.*KeyError"):
        require_trained_play(groups)


class LostEngine(ScriptedEngine):
    """Answers so many requests, and no more."""

    num_left = 3

    async def generate(self, request: SamplingRequest) -> Completion:
        self.num_left -= 1
        if self.num_left < 0:
            raise EngineLostError("its server is gone")
        return await super().generate(request)


class Undeterred(Chatter):
    """Goes on whatever happens to its models."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        with suppress(Exception):
            return await super().execute(workflow_task, tuner)
        return WorkflowOutput(reward=-1.0)


@pytest.mark.parametrize("workflow", [Chatter, Undeterred])
def test_an_engine_that_is_lost_ends_play_with_its_own_words_and_counts_as_nobodys_failure(
    tokenizer: Any, workflow: type[Workflow]
) -> None:
    ended: list[Episode] = []
    rollouts = scheduler(tokenizer, workflow, engine=LostEngine(len(tokenizer), max_context=256, seed=1), max_retries=2)
    noted = replace(rollouts.runner.callbacks, on_episode=ended.append)
    rollouts = replace(rollouts, concurrency=1, runner=replace(rollouts.runner, callbacks=noted))
    with pytest.raises(EngineLostError, match="its server is gone"):
        collect(rollouts, group_size=4)
    assert [episode.status for episode in ended] == ["ok"], "two calls of the first episode were answered"


def test_a_collection_in_which_nobody_was_trained_stops_the_run(tokenizer: Any) -> None:
    groups = collect(scheduler(tokenizer, lambda: Chatter(trainable_targets=["nobody"])))
    with pytest.raises(ConfigError, match="trainable_targets"):
        require_trained_play(groups)


def test_a_collection_in_which_no_trained_agent_was_asked_stops_the_run_and_names_the_likely_cause() -> None:
    silent = make_episode(0, {"P1": 1.0, "P2": 0.0}, tags={"P1": "seer", "P2": "witch"})
    spoken = make_episode(1, {"P1": 1.0, "P2": 0.0}, make_call((1,), (2,)), tags={"P1": "seer", "P2": "witch"})
    groups = [EpisodeGroup(task=TASK, episodes=(silent, spoken))]
    metrics = episode_metrics(groups)
    assert metrics["episode/seer/uncalled"] == 1.0 and metrics["episode/witch/uncalled"] == 2.0
    require_trained_play(groups)
    with pytest.raises(WorkflowError, match=r"was asked in any of 1 episodes.*an illegal move.*a cache of its client"):
        require_trained_play([EpisodeGroup(task=TASK, episodes=(silent,))])
    # Held-out play goes on: against a random opponent, an agent may never have its turn.
    assert require_usable_play([EpisodeGroup(task=TASK, episodes=(silent,))]) == [silent]
    hung_up = replace(silent, num_undelivered_calls=3)
    with pytest.raises(WorkflowError, match="3 requests came, but their client hung up"):
        require_trained_play([EpisodeGroup(task=TASK, episodes=(hung_up,))])


def test_a_list_of_metrics_is_its_mean_an_empty_one_is_nothing_and_a_misspelt_field_is_an_error() -> None:
    output = WorkflowOutput(reward=1.0, log_metrics={"turns": [1, 2, 6], "tools": [], "days": 2})
    assert output.log_metrics == {"turns": 3.0, "days": 2.0}
    with pytest.raises(ValidationError, match="rewrd"):
        WorkflowOutput(rewrd=1.0)  # type: ignore[call-arg]


def test_a_step_that_lost_more_than_the_allowed_share_stops_the_run_with_the_first_error(tokenizer: Any) -> None:
    errors = iter([KeyError("first"), KeyError("second")])
    make = lambda: Failing(error=error) if (error := next(errors, None)) else Chatter()  # noqa: E731
    groups = collect(scheduler(tokenizer, make, concurrency=1), group_size=4)
    require_trained_play(groups, max_lost_fraction=0.5)
    with pytest.raises(WorkflowError, match=r"2 of 4 episodes were lost.*max_lost_fraction=0\.25.*KeyError: 'first'"):
        require_trained_play(groups, max_lost_fraction=0.25)
