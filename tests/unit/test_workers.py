"""Episodes that workers play by HTTP: the same as here, and whatever becomes of a worker is an episode's outcome."""

from __future__ import annotations

import asyncio
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
import requests
from recipes.small_models.tokenizer import train_tokenizer
from tests.episodes import Program, Run, by_agentscope, by_sdk, by_url, post
from transformers import PreTrainedTokenizerBase

from ajet.chat.types import ChatReply, ChatRequest
from ajet.config.compose import compose
from ajet.errors import ConfigError, PolicyError, WorkflowError
from ajet.records import Episode, Replay, ReplayRequest, Task
from ajet.rollout.agents.openai_sdk import OpenAIClient
from ajet.rollout.endpoint.endpoint import OpenAIAddress
from ajet.rollout.event_loop import RolloutLoop
from ajet.rollout.remote.tuner import TrainerGoneError
from ajet.rollout.remote.workflow import WorkersWorkflow
from ajet.rollout.worker import work
from ajet.tuner import AjetTuner
from ajet.workflow import Workflow, WorkflowOutput, WorkflowTask
from ajet.workflows.parameters import check_parameters

KEY = "0123456789abcdef"
BEARER = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(["hello"], vocab_size=280, max_context=256)


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("AJET_WORKER_KEY", KEY)
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


_RUNS: list[Run] = []


def made_run(tokenizer: Any, **settings: Any) -> Run:
    _RUNS.append(Run(tokenizer, **settings))
    return _RUNS[-1]


@pytest.fixture(autouse=True)
def closed_endpoints() -> Iterator[None]:
    yield
    while _RUNS:
        _RUNS.pop().endpoint.close()


@contextmanager
def worker(port: int, make_workflow: Callable[..., Workflow], **settings: Any) -> Iterator[None]:
    stop = threading.Event()
    url = f"http://127.0.0.1:{port}"
    thread = threading.Thread(
        target=work, args=(url, make_workflow), kwargs={"stop": stop, "concurrency": 2, **settings}, daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()


def played(run: Run, port: int, program: Callable[[AjetTuner], Any], **fields: Any) -> Episode:
    with worker(port, partial(Program, program=program)):
        (episode,) = run.play(lambda: WorkersWorkflow(port=port, **fields))
    return episode


def post_to(port: int, path: str, **body: Any) -> requests.Response:
    return requests.post(f"http://127.0.0.1:{port}{path}", json=body, headers=BEARER, timeout=20)


def claim(port: int) -> dict[str, Any]:
    """As soon as somebody listens there."""
    for _ in range(100):
        try:
            return dict(post_to(port, "/claim", worker="by hand", wait_s=20).json())
        except requests.ConnectionError:
            time.sleep(0.05)
    raise AssertionError("nobody listens")


def beside(run: Run, port: int, by_hand: Callable[[dict[str, Any]], None], **fields: Any) -> Episode:
    """An episode whose worker is a function of what it was given."""
    thread = threading.Thread(target=lambda: by_hand(claim(port)), daemon=True)
    thread.start()
    (episode,) = run.play(lambda: WorkersWorkflow(port=port, **fields))
    thread.join(10)
    return episode


def soon(told: list[str]) -> str:
    """The first of what another thread is about to hear."""
    for _ in range(100):
        if told:
            break
        time.sleep(0.05)
    return told[0]


@pytest.mark.parametrize("program", [by_url, by_sdk, by_agentscope])
def test_an_episode_on_a_worker_is_the_one_that_is_played_here(
    program: Callable[[AjetTuner], Any], tokenizer: Any, port: int
) -> None:
    here = made_run(tokenizer).one(program, own_thread=True)
    there = played(made_run(tokenizer), port, program)
    assert there.status == "ok" and there.rewards == {"P1": 1.0} and there.agent_tags == {"P1": "seer"}
    assert there.metadata == here.metadata and there.calls[0].sampled_ids == here.calls[0].sampled_ids
    assert there.calls[0].prompt_ids == here.calls[0].prompt_ids and there.calls[0].logprobs == here.calls[0].logprobs


def test_a_group_is_shared_out_among_workers_and_each_episode_is_played_once(tokenizer: Any, port: int) -> None:
    names = list[str]()

    class Counted(Workflow):
        async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
            names.append(f"{workflow_task.task_id} {workflow_task.repeat}")
            client = tuner.as_raw_openai_sdk_client("P1", "seer")
            await client.chat.completions.create(model="any", messages=[{"role": "user", "content": "Speak."}])
            return WorkflowOutput(reward=float(workflow_task.repeat), log_metrics={"turns": 1.0})

    with worker(port, Counted), worker(port, Counted):
        episodes = made_run(tokenizer).play(lambda: WorkersWorkflow(port=port), group_size=6)
    assert sorted(names) == [f"t {n}" for n in range(6)]
    assert [episode.rewards["P1"] for episode in episodes] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert all(episode.log_metrics == {"turns": 1.0} for episode in episodes)


def test_a_plain_function_plays_on_a_worker_and_rewards_its_replies(tokenizer: Any, port: int) -> None:
    class Plain(Workflow):
        def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:  # type: ignore[override]
            post(tuner.as_oai_baseurl_apikey("P1", "seer")).raise_for_status()
            tuner.add_reward(0.25, "P1")
            assert not tuner.get_context_tracker().context_overflow
            with pytest.raises(WorkflowError, match="no agent"):
                tuner.add_reward(1.0, "P2")
            return WorkflowOutput(reward=1.0)

    with worker(port, Plain):
        (episode,) = made_run(tokenizer).play(lambda: WorkersWorkflow(port=port))
    assert episode.error is None and episode.rewards == {"P1": 1.25} and episode.calls[0].reward == 0.25


def test_agents_that_are_not_trained_speak_through_the_workers_own_model(tokenizer: Any, port: int) -> None:
    own = OpenAIAddress(base_url="http://mine.invalid/v1", api_key="k", model="m")

    def program(tuner: AjetTuner) -> Any:
        assert tuner.as_oai_baseurl_apikey("P2", "witch", debug_model=own) == own
        client = tuner.as_raw_openai_sdk_client("P2", "witch", debug_model=own)
        assert isinstance(client, OpenAIClient) and client.model == "m"
        return by_sdk(tuner)

    with worker(port, partial(Program, program=program)):
        (episode,) = made_run(tokenizer).play(lambda: WorkersWorkflow(port=port, trainable_targets=["seer"]))
    assert episode.error is None and episode.rewards == {"P1": 1.0}


def test_an_agent_that_nobody_speaks_for_ends_the_run_and_the_worker_is_told(tokenizer: Any, port: int) -> None:
    told = list[str]()

    def program(tuner: AjetTuner) -> Any:
        try:
            return tuner.as_oai_baseurl_apikey("P2", "witch")
        except WorkflowError as error:
            told.append(str(error))
            raise

    with worker(port, partial(Program, program=program)), pytest.raises(ConfigError, match="witch"):
        made_run(tokenizer).play(lambda: WorkersWorkflow(port=port, trainable_targets=["seer"]))
    assert "not trained and has no debug_model" in soon(told)


@pytest.mark.parametrize(
    ("error", "status"),
    [(PolicyError("cheated"), "policy_error"), (ValueError("broken"), "infra_error"), (SystemExit(3), "infra_error")],
)
def test_what_a_program_raises_on_a_worker_is_its_episodes_end(
    error: BaseException, status: str, tokenizer: Any, port: int
) -> None:
    async def program(tuner: AjetTuner) -> None:
        await by_sdk(tuner)
        raise error

    episode = played(made_run(tokenizer), port, program)
    assert episode.status == status and type(error).__name__ in str(episode.error)
    assert status == "policy_error" or not episode.rewards


def test_a_worker_that_falls_silent_loses_its_episode(tokenizer: Any, port: int) -> None:
    late = list[int]()

    def by_hand(claimed: dict[str, Any]) -> None:
        path = f"/episodes/{claimed['episode']}"
        assert post_to(port, f"{path}/renew").status_code == 204
        time.sleep(1.2)
        late.append(post_to(port, f"{path}/finish", reward=1.0).status_code)

    episode = beside(made_run(tokenizer), port, by_hand, lease_s=0.5)
    assert episode.status == "infra_error" and "worker by hand was not heard of for 0.5 s" in str(episode.error)
    assert late == [410]


def test_a_long_episode_keeps_its_lease(tokenizer: Any, port: int) -> None:
    async def program(tuner: AjetTuner) -> str:
        await asyncio.sleep(4)
        return await by_sdk(tuner)

    assert played(made_run(tokenizer), port, program, lease_s=3).status == "ok"


def test_a_program_whose_episode_is_over_is_cancelled(tokenizer: Any, port: int) -> None:
    ended = threading.Event()

    async def program(tuner: AjetTuner) -> None:
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()

    episode = played(made_run(tokenizer, timeout_s=2), port, program, lease_s=3)
    assert episode.status == "timeout"
    assert ended.wait(5)


def test_requests_that_cannot_be_answered_say_why(tokenizer: Any, port: int) -> None:
    said = dict[str, tuple[int, str]]()

    def by_hand(claimed: dict[str, Any]) -> None:
        path = f"/episodes/{claimed['episode']}"

        def keep(name: str, answer: requests.Response) -> None:
            said[name] = answer.status_code, answer.json()["error"]

        keep("verb", post_to(port, f"{path}/dance"))
        keep("field", post_to(port, f"{path}/agent", name="P1"))
        keep("reward", post_to(port, f"{path}/finish", reward="much"))
        keep("episode", post_to(port, "/episodes/none/renew"))
        url = f"http://127.0.0.1:{port}{path}/renew"
        keep("key", requests.post(url, json={}, headers={"Authorization": "Bearer wrong"}, timeout=20))
        keep("length", requests.post(url, data=iter([b"{}"]), headers=BEARER, timeout=20))
        keep("json", requests.post(url, data=b"{", headers=BEARER, timeout=20))
        post_to(port, f"{path}/abort", error="enough")

    episode = beside(made_run(tokenizer), port, by_hand)
    assert episode.status == "infra_error" and "worker by hand: enough" in str(episode.error)
    codes = {name: code for name, (code, _) in said.items()}
    assert codes == {
        "verb": 404, "field": 400, "reward": 400, "episode": 410, "key": 401, "length": 413, "json": 400
    }  # fmt: skip
    assert "renew, agent" in said["verb"][1] and "reward" in said["reward"][1] and "name" in said["field"][1]
    assert KEY not in str(said)


def test_without_a_key_nothing_is_served(tokenizer: Any, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AJET_WORKER_KEY", "short")
    with pytest.raises(ConfigError, match=r"AJET_WORKER_KEY.* 16 letters"):
        made_run(tokenizer).play(lambda: WorkersWorkflow(port=port))


def test_a_port_that_is_taken_says_which_setting(tokenizer: Any, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)), pytest.raises(ConfigError, match=r"workflow\.params\.port"):
        made_run(tokenizer).play(lambda: WorkersWorkflow(port=port))


def test_a_worker_that_never_reaches_a_trainer_says_so(port: int) -> None:
    with pytest.raises(TrainerGoneError, match="cannot be reached"):
        work(f"http://127.0.0.1:{port}", partial(Program, program=by_url), patience_s=0.1)


def test_a_worker_with_another_key_stops_at_once(tokenizer: Any, port: int) -> None:
    raised = list[str]()

    def by_hand(claimed: dict[str, Any]) -> None:
        with pytest.raises(TrainerGoneError) as error:
            work(f"http://127.0.0.1:{port}", partial(Program, program=by_url), key="another-key-of-this-kind")
        raised.append(str(error.value))
        post_to(port, f"/episodes/{claimed['episode']}/finish", reward=0.0)

    beside(made_run(tokenizer), port, by_hand)
    assert "AJET_WORKER_KEY" in raised[0]


def test_a_workflow_that_cannot_be_made_ends_the_worker_and_its_episode_is_played_elsewhere(
    tokenizer: Any, port: int
) -> None:
    class Particular(Program):
        num_players: int

    made = list[Any]()

    class Trained(Program):
        def model_post_init(self, context: Any) -> None:
            made.append(self.trainable_targets)

    raised = list[str]()

    def broken() -> None:
        with pytest.raises(ConfigError) as error:
            work(f"http://127.0.0.1:{port}", partial(Particular, program=by_url), concurrency=1)
        raised.append(str(error.value))

    thread = threading.Thread(target=broken, daemon=True)
    thread.start()
    run = made_run(tokenizer)
    (lost,) = run.play(lambda: WorkersWorkflow(port=port, trainable_targets=["seer"]))
    thread.join(10)
    assert lost.status == "infra_error" and "stopped" in str(lost.error)
    assert "num_players" in raised[0]
    with worker(port, partial(Trained, program=by_url)):
        (episode,) = run.play(lambda: WorkersWorkflow(port=port, trainable_targets=["seer"]))
    assert episode.status == "ok" and made == [["seer"]]


def test_what_a_program_returns_comes_back_as_it_is_kept_here(tokenizer: Any, port: int) -> None:
    class Odd(Workflow):
        own_thread: bool | None = True

        async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
            await by_sdk(tuner)
            return WorkflowOutput(
                reward=0.5,
                is_success=True,
                metadata={"array": np.arange(3), "half": "\ud800", "far": math.inf, "pair": (1, {2})},
                log_metrics={"lost": math.nan, "found": 1.0},
            )

    (here,) = made_run(tokenizer).play(Odd)
    with worker(port, Odd):
        (there,) = made_run(tokenizer).play(lambda: WorkersWorkflow(port=port))
    assert there.error is None and there.metadata == here.metadata and there.is_success
    assert repr(there.log_metrics) == repr(here.log_metrics) and there.rewards == here.rewards


def test_a_reward_that_is_no_number_is_the_error_that_it_is_here(tokenizer: Any, port: int) -> None:
    class Lost(Workflow):
        async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
            await by_sdk(tuner)
            return WorkflowOutput(reward=math.nan)

    with worker(port, Lost):
        (episode,) = made_run(tokenizer).play(lambda: WorkersWorkflow(port=port))
    assert episode.status == "infra_error" and "must be finite" in str(episode.error)


def test_a_task_that_json_cannot_hold_is_refused_before_it_is_offered(tokenizer: Any, port: int) -> None:
    task = Task(task_id="odd", metadata={"found": {1, 2}})
    with pytest.raises(ConfigError, match=r"Task odd cannot be sent to workers, .*set"):
        made_run(tokenizer).play(lambda: WorkersWorkflow(port=port), task=task)


def test_claims_of_workers_that_are_gone_take_no_episodes(tokenizer: Any, port: int) -> None:
    def hang_up_then_play(claimed: dict[str, Any]) -> None:
        for _ in range(3):
            with pytest.raises(requests.Timeout):
                url = f"http://127.0.0.1:{port}/claim"
                requests.post(url, json={"worker": "gone", "wait_s": 20}, headers=BEARER, timeout=0.3)
        post_to(port, f"/episodes/{claimed['episode']}/finish", reward=0.0)

    run = made_run(tokenizer)
    beside(run, port, hang_up_then_play)
    with worker(port, partial(Program, program=by_sdk)):
        episodes = run.play(lambda: WorkersWorkflow(port=port), group_size=4)
    assert [episode.status for episode in episodes] == ["ok"] * 4


def test_a_class_that_names_its_own_targets_is_not_trained_on_others(tokenizer: Any, port: int) -> None:
    def by_hand(claimed: dict[str, Any]) -> None:
        post_to(port, f"/episodes/{claimed['episode']}/finish", reward=0.0)

    run = made_run(tokenizer)
    beside(run, port, by_hand)  # so that somebody listens
    own = partial(Program, program=by_url, trainable_targets=["seer"])
    refused = list[str]()

    def refuse() -> None:
        with pytest.raises(ConfigError) as error:
            work(f"http://127.0.0.1:{port}", own, concurrency=1)
        refused.append(str(error.value))

    thread = threading.Thread(target=refuse, daemon=True)
    thread.start()
    run.play(lambda: WorkersWorkflow(port=port))
    thread.join(10)
    assert "start that with 'trainable_targets=[seer]'" in refused[0]


def test_an_opponent_that_cannot_be_made_is_said_on_both_sides(tokenizer: Any, port: int) -> None:
    told = list[str]()

    def broken(*_: Any) -> Any:
        raise RuntimeError("no such player")

    def program(tuner: AjetTuner) -> None:
        try:
            tuner.as_oai_baseurl_apikey("P2", "witch")
        except TrainerGoneError as error:
            told.append(str(error))
            raise

    with worker(port, partial(Program, program=program)):
        (episode,) = made_run(tokenizer, opponent=broken).play(
            lambda: WorkersWorkflow(port=port, trainable_targets=["seer"])
        )
    assert episode.status == "infra_error" and "no such player" in str(episode.error)
    assert "no such player" in soon(told)


class Hm:
    async def chat(self, request: ChatRequest) -> ChatReply:
        return ChatReply(content="hm")


async def exchange(tuner: AjetTuner) -> list[str]:
    """P1 speaks, then P2 to what it said."""
    said = [""]
    for name, tag in (("P1", "seer"), ("P2", "witch")):
        client = tuner.as_raw_openai_sdk_client(agent_name=name, target_tag=tag)
        ask: Any = [{"role": "user", "content": f"hello {said[-1]}"}]
        said.append(str((await client.chat.completions.create(messages=ask, model="any")).choices[0].message.content))
    return said[1:]


def test_a_worker_plays_an_episode_again_as_it_would_be_here(tokenizer: Any, port: int) -> None:
    def replayed(make_workflow: Callable[[], Workflow]) -> list[Any]:
        rollouts = made_run(tokenizer, opponent=lambda *_: Hm()).scheduler(make_workflow)

        async def both() -> list[Replay]:
            (group,) = await rollouts.collect([Task(task_id="t")], group_size=1, stream="train/0")
            (episode,) = group.episodes
            changes = (
                ReplayRequest(episode=episode, replaced_tag="seer"),
                ReplayRequest(episode=episode, resampled_call=1),
            )
            return await rollouts.replay(changes, stream="train/0")

        with asyncio.Runner(loop_factory=RolloutLoop) as loop:
            return [
                (
                    each.is_reproduced,
                    each.num_given,
                    each.episode.metadata,
                    [call.sampled_ids for call in each.episode.calls],
                )
                for each in loop.run(both())
            ]

    with worker(port, partial(Program, program=exchange)):
        there = replayed(lambda: WorkersWorkflow(port=port))
    assert there == replayed(lambda: Program(program=exchange))
    assert [each[:2] for each in there] == [(True, 0), (True, 1)] and there[0][2]["said"][0] == "hm"


def test_who_cannot_play_trained_roles_again_is_refused_before_anything_is_played(port: int) -> None:
    # Scripted players of a worker's workflow are not known of here.
    asked = ["workflow=workers", "credit=difference", "opponent=scripted", "trainable_targets=[seer]"]
    said = r"opponent=scripted: WorkersWorkflow has no scripted players, and credit=difference .*opponent=.*frozen"
    with pytest.raises(ConfigError, match=said):
        check_parameters(compose(asked, run_dir="x"))


def test_a_program_that_cancels_itself_fails_at_once(tokenizer: Any, port: int) -> None:
    async def program(tuner: AjetTuner) -> None:
        raise asyncio.CancelledError

    assert "CancelledError" in str(played(made_run(tokenizer), port, program).error)


@pytest.mark.parametrize("url", ["trainer:8765", "http://", "ftp://trainer", "http://trainer:port"])
def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigError, match="is no address"):
        work(url, partial(Program, program=by_url), key=KEY)


def test_a_worker_of_another_version_is_refused(tokenizer: Any, port: int) -> None:
    said = list[requests.Response]()

    def by_hand(claimed: dict[str, Any]) -> None:
        said.append(post_to(port, "/claim", worker="old", wait_s=0, version=0))
        post_to(port, f"/episodes/{claimed['episode']}/finish", reward=0.0)

    beside(made_run(tokenizer), port, by_hand)
    assert said[0].status_code == 400 and "version" in said[0].json()["error"]
