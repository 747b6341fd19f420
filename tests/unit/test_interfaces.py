"""The tuner's three interfaces in real episodes: the same roles on each, programs that block, keys that end."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
import requests
from transformers import PreTrainedTokenizerBase

from ajet.agents.agentscope import AgentScopeModel
from ajet.agents.openai_sdk import OpenAIClient
from ajet.agents.speakers import SamplingSettings
from ajet.chat.renderer import ChatRenderer
from ajet.chat.types import ChatModel
from ajet.config.root import Config
from ajet.endpoint.endpoint import Endpoint, EndpointSettings
from ajet.engine.scripted import ScriptedEngine
from ajet.errors import ConfigError
from ajet.models.tokenizer import train_tokenizer
from ajet.opponents.random import PHRASES, RandomPlayer
from ajet.records import Episode, Task
from ajet.rollout.cast import Voices
from ajet.rollout.event_loop import RolloutLoop
from ajet.rollout.runner import EpisodeRunner
from ajet.rollout.scheduler import RolloutScheduler
from ajet.tuner import AjetTuner, OpenAIAddress
from ajet.workflow import Workflow, WorkflowOutput, WorkflowTask

ASK: Any = [{"role": "user", "content": "Speak."}]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(["hello"], vocab_size=280, max_context=256)


class Run:
    """One run's parts; `play` collects on the rollout's loop, as a trainer does."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        opponent: Callable[[str, str, random.Random], ChatModel] | None = None,
        timeout_s: float = 30.0,
        max_context: int = 256,
        settings: EndpointSettings | None = None,
    ) -> None:
        self.endpoint = Endpoint(settings)
        self._voices = Voices(
            policy_engine=ScriptedEngine(len(tokenizer), max_context=max_context, seed=1),
            frozen_engine=None,
            make_player=opponent,
            renderer=ChatRenderer(tokenizer),
            sampling=SamplingSettings(temperature=1.0, max_tokens=12),
        )
        self._timeout_s = timeout_s

    def play(self, make_workflow: Callable[[], Workflow], *, group_size: int = 1) -> tuple[Episode, ...]:
        runner = EpisodeRunner(
            config=Config(),
            make_workflow=make_workflow,
            voices=self._voices,
            agentscope_adapter=lambda model, name: AgentScopeModel(model, name=name),
            timeout_s=self._timeout_s,
            policy_error_reward=0.0,
            endpoint=self.endpoint,
        )
        scheduler = RolloutScheduler(runner=runner, concurrency=8, max_retries=0)
        with asyncio.Runner(loop_factory=RolloutLoop) as loop:
            (group,) = loop.run(scheduler.collect([Task(task_id="t")], group_size=group_size, stream="train"))
        return group.episodes

    def one(self, program: Callable[[AjetTuner], Any], **fields: Any) -> Episode:
        (episode,) = self.play(lambda: Program(program=program, **fields))
        return episode


@pytest.fixture
def run(tokenizer: PreTrainedTokenizerBase) -> Any:
    made = Run(tokenizer)
    yield made
    made.endpoint.close()


class Program(Workflow):
    """Runs a function of the tuner; what it returns becomes metadata."""

    program: Callable[[AjetTuner], Any]

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        said = self.program(tuner)
        if asyncio.iscoroutine(said):
            said = await said
        return WorkflowOutput(reward=1.0, metadata={"said": said})


def post(address: OpenAIAddress, **body: Any) -> requests.Response:
    """A blocking request, as a program without any framework makes it."""
    return requests.post(
        f"{address.base_url}/chat/completions",
        json={"model": address.model, "messages": ASK, **body},
        headers={"Authorization": f"Bearer {address.api_key}"},
        timeout=20,
    )


def by_url(tuner: AjetTuner) -> str:
    answer = post(tuner.as_oai_baseurl_apikey(agent_name="P1", target_tag="seer")).json()
    return str(answer["choices"][0]["message"]["content"])


async def by_sdk(tuner: AjetTuner) -> str:
    client = tuner.as_raw_openai_sdk_client(agent_name="P1", target_tag="seer")
    return str((await client.chat.completions.create(messages=ASK, model="any")).choices[0].message.content)


async def by_agentscope(tuner: AjetTuner) -> str:
    response = await tuner.as_agentscope_model(agent_name="P1", target_tag="seer")(ASK)
    return "".join(block["text"] for block in response.content)


def test_one_seed_samples_the_same_reply_on_every_interface(run: Run) -> None:
    episodes = [run.one(program) for program in (by_agentscope, by_sdk, by_url)]
    assert [episode.status for episode in episodes] == ["ok"] * 3, [episode.error for episode in episodes]
    first, *others = (episode.calls for episode in episodes)
    assert len(first) == 1 and all(calls == first for calls in others)
    assert len({episode.metadata["said"] for episode in episodes}) == 1
    assert all(episode.agent_tags == {"P1": "seer"} and episode.rewards == {"P1": 1.0} for episode in episodes)


def test_the_server_starts_only_when_a_url_is_asked_for(run: Run) -> None:
    def serving() -> bool:
        return any(thread.name == "ajet-endpoint" for thread in threading.enumerate())

    run.one(by_sdk)
    assert not serving()
    run.one(by_url)
    assert serving()
    run.endpoint.close()
    assert not serving()


def test_blocking_programs_run_side_by_side(run: Run) -> None:
    def blocking(tuner: AjetTuner) -> str:
        time.sleep(0.3)
        said = by_url(tuner)
        time.sleep(0.3)
        return said + by_url(tuner)

    run.one(by_url)  # the server starts, which takes its time
    started = time.monotonic()
    episodes = run.play(lambda: Program(program=blocking), group_size=8)
    assert [episode.status for episode in episodes] == ["ok"] * 8
    # One after the other would take at least 4.8 s; the first of them begin once more on threads of their own.
    assert time.monotonic() - started < 8 * 0.6
    assert all(len(episode.calls) == 2 for episode in episodes)


def test_two_runs_of_one_seed_say_the_same_on_threads_too(tokenizer: Any) -> None:
    def sampled() -> list[Any]:
        made = Run(tokenizer)
        episodes = made.play(lambda: Program(program=by_url), group_size=6)
        made.endpoint.close()
        return [[call.sampled_ids for call in episode.calls] for episode in episodes]

    assert sampled() == sampled()


def test_a_program_that_blocks_for_good_times_out_and_holds_up_nobody(tokenizer: Any) -> None:
    made = Run(tokenizer, timeout_s=1.5)
    forever = threading.Event()
    turns = iter(range(100))

    def program(tuner: AjetTuner) -> str:
        said = by_url(tuner)
        if next(turns) == 0:
            forever.wait(20)
        return said

    started = time.monotonic()
    episodes = made.play(lambda: Program(program=program), group_size=4)
    made.endpoint.close()
    forever.set()
    assert sorted(episode.status for episode in episodes) == ["ok", "ok", "ok", "timeout"]
    assert time.monotonic() - started < 10


def test_a_key_ends_with_its_episode(run: Run) -> None:
    kept: list[Any] = []

    def program(tuner: AjetTuner) -> int:
        kept.append(tuner.as_oai_baseurl_apikey())
        kept.append(tuner)
        return post(kept[0]).status_code

    assert run.one(program).metadata["said"] == 200
    late = post(kept[0])
    assert late.status_code == 401 and late.json()["error"]["code"] == "invalid_api_key"


def test_a_request_that_is_under_way_when_the_episode_ends_gets_401_too(tokenizer: Any) -> None:
    class Slow:
        async def chat(self, request: Any) -> Any:
            await asyncio.sleep(20)

    made = Run(tokenizer, opponent=lambda name, tag, rng: Slow())
    answers: list[Any] = []

    def program(tuner: AjetTuner) -> None:
        address = tuner.as_oai_baseurl_apikey(target_tag="slow")
        threads.append(threading.Thread(target=lambda: answers.append(post(address).status_code)))
        threads[-1].start()
        time.sleep(0.5)

    threads: list[threading.Thread] = []
    (episode,) = made.play(lambda: Program(program=program, trainable_targets=["nobody"]))
    threads[-1].join(10)
    made.endpoint.close()
    assert episode.status == "ok" and answers == [401] and not episode.calls


def test_a_client_that_hangs_up_leaves_no_call_behind(tokenizer: Any) -> None:
    aborted = threading.Event()

    class Slow:
        async def chat(self, request: Any) -> Any:
            try:
                await asyncio.sleep(20)
            except asyncio.CancelledError:
                aborted.set()
                raise

    made = Run(tokenizer, opponent=lambda name, tag, rng: Slow())

    def program(tuner: AjetTuner) -> bool:
        address = tuner.as_oai_baseurl_apikey(target_tag="slow")
        with pytest.raises(requests.exceptions.ReadTimeout):
            requests.post(
                f"{address.base_url}/chat/completions",
                json={"messages": ASK},
                headers={"Authorization": f"Bearer {address.api_key}"},
                timeout=0.3,
            )
        return aborted.wait(5)

    (episode,) = made.play(lambda: Program(program=program, trainable_targets=["nobody"]))
    made.endpoint.close()
    assert episode.metadata["said"] is True, episode.error


def test_a_body_over_the_bound_and_a_stranger_are_turned_away(tokenizer: Any) -> None:
    made = Run(tokenizer, settings=EndpointSettings(max_body_bytes=1000))

    def program(tuner: AjetTuner) -> list[int]:
        address = tuner.as_oai_baseurl_apikey()
        stranger = OpenAIAddress(base_url=address.base_url, api_key="sk-ajet-0-0", model="x")
        long = "x" * 2000
        return [post(address, user=long).status_code, post(stranger).status_code, post(address).status_code]

    episode = made.one(program)
    made.endpoint.close()
    assert episode.metadata["said"] == [413, 401, 200], episode.error


def test_the_server_listens_on_loopback_unless_told_otherwise(run: Run) -> None:
    base_url = run.endpoint.base_url()
    assert base_url.startswith("http://127.0.0.1:")
    port = int(base_url.removesuffix("/v1").rsplit(":", 1)[1])
    outside = [str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)]
    for address in outside:
        if not address.startswith("127."):
            with pytest.raises(OSError):
                socket.create_connection((address, port), timeout=2)


def test_a_port_that_is_taken_is_an_error_that_says_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=r"endpoint\.port=0"):
            Endpoint(EndpointSettings(port=port)).base_url()


def test_task_groups_and_broad_handlers_do_not_keep_an_episode_on_the_loop(run: Run) -> None:
    async def grouped(tuner: AjetTuner) -> str:
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(asyncio.to_thread(by_url, tuner))
            group.create_task(by_agentscope(tuner))
        return asked.result()

    async def asking(tuner: AjetTuner) -> str:
        async with asyncio.TaskGroup() as group:
            told = [group.create_task(_address(tuner)) for _ in range(2)]
        return post(told[0].result()).json()["object"]  # type: ignore[no-any-return]

    def swallowing(tuner: AjetTuner) -> str:
        try:
            return by_url(tuner)
        except BaseException:
            return "swallowed"

    for program in (grouped, asking, swallowing):
        episode = run.one(program)
        assert episode.status == "ok" and episode.metadata["said"] != "swallowed", episode.error


async def _address(tuner: AjetTuner) -> OpenAIAddress:
    return tuner.as_oai_baseurl_apikey(agent_name="P1", target_tag="seer")


def test_a_broken_program_on_a_thread_is_an_infrastructure_failure_with_its_line(run: Run) -> None:
    def program(tuner: AjetTuner) -> None:
        tuner.as_oai_baseurl_apikey()
        raise KeyError("x")

    def exits(tuner: AjetTuner) -> None:
        tuner.as_oai_baseurl_apikey()
        raise asyncio.CancelledError

    episode = run.one(program)
    assert episode.status == "infra_error" and episode.error is not None
    assert "KeyError" in episode.error and "test_interfaces.py" in episode.error
    assert run.one(exits).status == "infra_error"


def random_player(name: str, tag: str, rng: random.Random) -> ChatModel:
    return RandomPlayer(rng)


@pytest.mark.parametrize("program", [by_agentscope, by_sdk, by_url])
def test_an_opponent_speaks_for_untrained_roles_on_every_interface(tokenizer: Any, program: Any) -> None:
    made = Run(tokenizer, opponent=random_player)
    episode = made.one(program, trainable_targets=["other"])
    made.endpoint.close()
    assert episode.metadata["said"] in PHRASES and not episode.agent_tags, episode.error
    (call,) = episode.calls
    assert not call.trained and call.target_tag == "seer" and call.reply == episode.metadata["said"]


@pytest.mark.parametrize("program", [by_agentscope, by_sdk, by_url])
def test_an_untrained_role_with_nobody_to_speak_for_it_is_the_same_error_on_every_interface(
    run: Run, program: Any
) -> None:
    with pytest.raises(ConfigError, match="opponent=scripted"):
        run.one(program, trainable_targets=["other"])


def test_a_debug_model_speaks_where_no_opponent_is_set_and_not_where_one_is(tokenizer: Any) -> None:
    own = OpenAIAddress(base_url="http://127.0.0.1:9/v1", api_key="mine", model="own")

    async def asked(tuner: AjetTuner) -> list[Any]:
        address = tuner.as_oai_baseurl_apikey(target_tag="x", debug_model=own)
        client = tuner.as_raw_openai_sdk_client(target_tag="x", debug_model=own)
        return [address, str(client.base_url), client.api_key, getattr(client, "model", None)]

    alone, played = Run(tokenizer), Run(tokenizer, opponent=random_player)
    said = alone.one(asked, trainable_targets=["other"]).metadata["said"]
    assert said == [own, "http://127.0.0.1:9/v1/", "mine", "own"]
    address, *others = played.one(asked, trainable_targets=["other"]).metadata["said"]
    played.endpoint.close()
    assert address.model == "ajet-x" and others[1] != "mine"


def test_an_sdk_client_of_the_users_own_is_handed_out_as_it_is(run: Run) -> None:
    own = openai.AsyncOpenAI(api_key="mine", base_url="http://127.0.0.1:9/v1")

    def asked(tuner: AjetTuner) -> Any:
        return tuner.as_raw_openai_sdk_client(target_tag="x", debug_model=own)

    assert run.one(asked, trainable_targets=["other"]).metadata["said"] is own


@pytest.mark.parametrize("interface", ["as_oai_baseurl_apikey", "as_raw_openai_sdk_client"])
def test_a_debug_model_without_an_address_is_refused_with_what_is_needed(run: Run, interface: str) -> None:
    with pytest.raises(ConfigError, match="base_url, api_key and model"):
        run.one(
            lambda tuner: getattr(tuner, interface)(target_tag="x", debug_model=object()), trainable_targets=["other"]
        )


def test_the_sdk_client_is_a_real_one_that_takes_messages_first_and_knows_its_model(run: Run) -> None:
    async def program(tuner: AjetTuner) -> list[Any]:
        client = tuner.as_raw_openai_sdk_client(agent_name="P1", target_tag="seer")
        assert isinstance(client, openai.AsyncOpenAI) and isinstance(client, OpenAIClient)
        create: Any = client.chat.completions.create
        whole = await create(ASK)
        pieces = [piece async for piece in await create(ASK, stream=True, stream_options={"include_usage": True})]
        other: Any = client.with_options(timeout=5).chat.completions.create
        await other(ASK)
        raw = await client.chat.completions.with_raw_response.create(messages=ASK, model="x")
        listed = [model.id async for model in client.models.list()]
        return [whole, pieces, raw.parse(), listed, client.model]

    episode = run.one(program)
    whole, pieces, raw, listed, name = episode.metadata["said"]
    assert whole.choices[0].finish_reason in ("stop", "length") and whole.usage.completion_tokens == len(
        episode.calls[0].sampled_ids
    )
    assert pieces[-1].usage.completion_tokens == len(episode.calls[1].sampled_ids)
    assert raw.model == name == "ajet-seer" and listed == ["ajet-seer"] and len(episode.calls) == 4


def test_the_sdk_raises_its_own_errors(tokenizer: Any) -> None:
    async def program(tuner: AjetTuner) -> list[Any]:
        client = tuner.as_raw_openai_sdk_client()
        tracker = tuner.get_context_tracker()
        seen: list[Any] = [tracker.context_overflow]
        for changes in ({"top_p": 0.5}, {}):
            try:
                await client.chat.completions.create(messages=ASK, model="x", **changes)  # type: ignore[call-overload]
            except openai.BadRequestError as error:
                seen.append((error.code, error.param))
        return [*seen, tracker.context_overflow, tracker.num_context_overflows]

    episode = Run(tokenizer, max_context=4).one(program)
    assert episode.metadata["said"] == [
        False,
        ("unsupported_parameter", "top_p"),
        ("context_length_exceeded", "messages"),
        True,
        1,
    ]
    assert episode.num_context_overflows == 1


def test_a_client_kept_beyond_its_episode_is_refused(run: Run) -> None:
    kept: list[Any] = []

    async def program(tuner: AjetTuner) -> None:
        kept.extend([tuner.as_raw_openai_sdk_client(), tuner.as_agentscope_model(), tuner])

    run.one(program)
    with pytest.raises(openai.AuthenticationError):
        asyncio.run(kept[0].chat.completions.create(ASK))
    with pytest.raises(Exception, match="episode is over"):
        asyncio.run(kept[1](ASK))
    with pytest.raises(Exception, match="episode is over"):
        kept[2].as_raw_openai_sdk_client()


def test_an_address_does_not_show_its_key() -> None:
    assert "secret" not in repr(OpenAIAddress(base_url="u", api_key="secret", model="m"))


def test_asynchronous_http_works_by_url_too(run: Run) -> None:
    async def program(tuner: AjetTuner) -> list[int]:
        address = tuner.as_oai_baseurl_apikey()
        async with httpx.AsyncClient(base_url=address.base_url, headers=bearer(address), trust_env=False) as client:
            answers = await asyncio.gather(
                *(client.post("/chat/completions", json={"messages": ASK}) for _ in range(5))
            )
        return [answer.status_code for answer in answers]

    episode = run.one(program)
    assert episode.metadata["said"] == [200] * 5 and len(episode.calls) == 5
    assert len({call.sampled_ids for call in episode.calls}) > 1


def bearer(address: OpenAIAddress) -> dict[str, str]:
    return {"Authorization": f"Bearer {address.api_key}"}
