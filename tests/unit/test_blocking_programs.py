"""Programs by URL: they may block, hang, break and hang up; keys end with their episode, and others stay out."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import Any

import httpx
import pytest
import requests
from recipes.small_models.tokenizer import train_tokenizer
from tests.episodes import ASK, Program, Run, by_agentscope, by_sdk, by_url, post
from transformers import PreTrainedTokenizerBase

from ajet.errors import ConfigError
from ajet.rollout.endpoint.config import EndpointConfig
from ajet.rollout.endpoint.endpoint import Endpoint
from ajet.tuner import AjetTuner, OpenAIAddress


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(["hello"], vocab_size=280, max_context=256)


@pytest.fixture
def run(tokenizer: PreTrainedTokenizerBase) -> Any:
    made = Run(tokenizer)
    yield made
    made.endpoint.close()


def test_the_server_starts_only_when_a_url_is_asked_for(run: Run) -> None:
    def serving() -> bool:
        return any(thread.name == "ajet endpoint.port" for thread in threading.enumerate())

    run.one(by_sdk)
    assert not serving()
    run.one(by_url)
    assert serving()
    run.endpoint.close()
    assert not serving()


def test_blocking_programs_run_side_by_side(run: Run) -> None:
    together = threading.Barrier(8)  # one after the other, none would get past it

    def blocking(tuner: AjetTuner) -> str:
        together.wait(60)
        said = by_url(tuner)
        together.wait(60)
        return said + by_url(tuner)

    episodes = run.play(lambda: Program(program=blocking), group_size=8)
    assert [episode.status for episode in episodes] == ["ok"] * 8
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
    forever, woken = threading.Event(), threading.Event()
    turns = iter(range(100))

    def program(tuner: AjetTuner) -> str:
        said = by_url(tuner)
        if next(turns) == 0:
            forever.wait(120)
            woken.set()
        return said

    episodes = made.play(lambda: Program(program=program), group_size=4)
    made.endpoint.close()
    assert not woken.is_set()  # nobody waited for it
    forever.set()
    assert sorted(episode.status for episode in episodes) == ["ok", "ok", "ok", "timeout"]


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
    threads[-1].join(60)
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
        return aborted.wait(60)

    (episode,) = made.play(lambda: Program(program=program, trainable_targets=["nobody"]))
    made.endpoint.close()
    assert episode.metadata["said"] is True, episode.error


def test_a_body_over_the_bound_and_a_wrong_key_are_turned_away(tokenizer: Any) -> None:
    made = Run(tokenizer, endpoint=EndpointConfig(max_body_mib=1000 / 2**20))

    def program(tuner: AjetTuner) -> list[int]:
        address = tuner.as_oai_baseurl_apikey()
        unknown = OpenAIAddress(base_url=address.base_url, api_key="sk-ajet-0-0", model="x")
        long = "x" * 2000
        return [post(address, user=long).status_code, post(unknown).status_code, post(address).status_code]

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
        with pytest.raises(ConfigError, match=r"choose another endpoint\.port, or 0"):
            Endpoint(EndpointConfig(port=port)).base_url()


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
    assert "KeyError" in episode.error and "test_blocking_programs.py" in episode.error
    assert run.one(exits).status == "infra_error"


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
