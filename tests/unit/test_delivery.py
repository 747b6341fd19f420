"""A reply that nobody received never happened: not to the trainer, not to the agent's conversation."""

from __future__ import annotations

import asyncio
import socket
import threading
from dataclasses import replace
from typing import Any

import httpx
import pytest
import requests
from recipes.small_models.tokenizer import train_tokenizer
from tests.episodes import ASK, Program, Run, by_agentscope, by_sdk, by_url, post
from transformers import PreTrainedTokenizerBase

from ajet.chat.types import Delivery
from ajet.engine.base import SamplingRequest
from ajet.engine.scripted import ScriptedEngine
from ajet.records import Completion
from ajet.rollout.endpoint.config import EndpointConfig
from ajet.tuner import AjetTuner


class SlowAtFirst(ScriptedEngine):
    """Takes its time for the first request, which then is sampled all the same; the others come at once."""

    num_asked = 0
    stubborn = False
    """Whether cancelling the first request does not help."""

    async def generate(self, request: SamplingRequest) -> Completion:
        self.num_asked += 1
        if self.num_asked == 1:
            try:
                await asyncio.sleep(1.0)
            except asyncio.CancelledError:
                if not self.stubborn:
                    raise
        return await super().generate(request)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(["hello"], vocab_size=280, max_context=256)


@pytest.fixture
def run(tokenizer: PreTrainedTokenizerBase) -> Any:
    made = Run(tokenizer)
    yield made
    made.endpoint.close()


@pytest.fixture
def slow_run(tokenizer: PreTrainedTokenizerBase) -> Any:
    made = Run(tokenizer, engine=SlowAtFirst(len(tokenizer), max_context=256, seed=1))
    yield made
    made.endpoint.close()


def impatient(address: Any, **body: Any) -> None:
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.post(
            f"{address.base_url}/chat/completions",
            json={"messages": ASK, **body},
            headers={"Authorization": f"Bearer {address.api_key}"},
            timeout=0.3,
        )


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_loses_patience_and_asks_again_makes_one_call(slow_run: Run, stream: bool) -> None:
    def program(tuner: AjetTuner) -> str:
        address = tuner.as_oai_baseurl_apikey(agent_name="P1", target_tag="seer")
        impatient(address, stream=stream)
        return str(post(address).json()["choices"][0]["message"]["content"])

    episode = slow_run.one(program)
    (call,) = episode.calls
    assert episode.status == "ok" and call.reply == episode.metadata["said"] and call.trained
    assert episode.num_undelivered_calls == 1


def test_a_reply_that_was_sampled_for_a_client_that_has_gone_is_no_turn_to_go_on_from(tokenizer: Any) -> None:
    engine = SlowAtFirst(len(tokenizer), max_context=256, seed=1)
    engine.stubborn = True
    made = Run(tokenizer, engine=engine)

    def program(tuner: AjetTuner) -> None:
        address = tuner.as_oai_baseurl_apikey(agent_name="P1", target_tag="seer")
        impatient(address)
        post(address)

    episode = made.one(program)
    made.endpoint.close()
    assert engine.num_asked == 2 and len(episode.calls) == 1 and episode.num_undelivered_calls == 1


@pytest.mark.parametrize("interface", ["agentscope", "sdk"])
def test_a_program_that_is_cancelled_before_its_reply_leaves_no_call(tokenizer: Any, interface: str) -> None:
    made = Run(tokenizer, engine=SlowAtFirst(len(tokenizer), max_context=256, seed=1))
    ask = {"agentscope": by_agentscope, "sdk": by_sdk}[interface]

    async def program(tuner: AjetTuner) -> str:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ask(tuner), 0.2)
        return await ask(tuner)

    episode = made.one(program)
    assert [call.reply for call in episode.calls] == [episode.metadata["said"]]
    assert episode.num_undelivered_calls == 1 and not episode.uncalled_agents


def test_a_stream_that_is_never_begun_was_not_received_and_one_that_is_left_early_was(run: Run) -> None:
    async def program(tuner: AjetTuner) -> None:
        client: Any = tuner.as_raw_openai_sdk_client(agent_name="P1", target_tag="seer")
        unread = await client.chat.completions.create(ASK, stream=True)
        await unread.close()
        async for _ in await client.chat.completions.create(ASK, stream=True):
            break

    episode = run.one(program)
    assert len(episode.calls) == 1 and episode.num_undelivered_calls == 1


def test_the_last_reply_of_an_episode_is_recorded_however_fast_its_program_ends(run: Run) -> None:
    """The program ends on its own thread as soon as it has the reply, while the server's thread still writes."""
    episodes = run.play(lambda: Program(program=by_url), group_size=40)
    assert [len(episode.calls) for episode in episodes] == [1] * 40
    assert sum(episode.num_undelivered_calls for episode in episodes) == 0


def test_what_was_said_on_another_thread_is_there_before_the_next_request() -> None:
    order: list[str] = []

    async def models() -> None:
        delivery = Delivery()
        delivery.when_received(lambda: order.append("received"))
        loop = asyncio.get_running_loop()

        async def hand_over() -> None:
            delivery.confirm()
            delivery.confirm()  # once is enough
            loop.call_soon_threadsafe(order.append, "next request")

        await asyncio.to_thread(asyncio.run, hand_over())
        await asyncio.sleep(0)

    asyncio.run(models())
    assert order == ["received", "next request"]


def test_each_episode_has_an_address_of_its_own_at_which_no_other_key_works(run: Run) -> None:
    addresses: list[Any] = []  # metadata keeps no keys
    answers: list[Any] = []

    def program(tuner: AjetTuner) -> None:
        addresses.append(tuner.as_oai_baseurl_apikey(agent_name="P1", target_tag="seer"))
        addresses.append(tuner.as_oai_baseurl_apikey("P2"))

    def crossing(tuner: AjetTuner) -> None:
        own = tuner.as_oai_baseurl_apikey(agent_name="P1", target_tag="seer")
        answers.append(post(replace(own, base_url=addresses[0].base_url)))
        answers.append(post(own))
        addresses.append(own)

    assert [run.one(each).status for each in (program, crossing)] == ["ok", "ok"]
    first, second, third = addresses
    assert first.base_url == second.base_url != third.base_url
    assert [answer.status_code for answer in answers] == [401, 200]
    assert "not of the episode" in answers[0].json()["error"]["message"]


def test_no_connection_outlives_its_reply_and_a_client_that_keeps_state_by_url_starts_afresh(run: Run) -> None:
    kept = requests.Session()

    def program(tuner: AjetTuner) -> list[str]:
        address = tuner.as_oai_baseurl_apikey(agent_name="P1", target_tag="seer")
        answers = [
            kept.post(
                f"{address.base_url}/chat/completions",
                json={"messages": ASK},
                headers={"Authorization": f"Bearer {address.api_key}"},
            )
            for _ in range(2)
        ]
        return [answer.headers["connection"] for answer in answers]

    assert run.one(program).metadata["said"] == ["close", "close"]


def test_langchain_which_keeps_its_clients_by_url_receives_every_reply_that_is_recorded(run: Run) -> None:
    chat_openai = pytest.importorskip("langchain_openai").ChatOpenAI

    async def program(tuner: AjetTuner) -> list[str]:
        address = tuner.as_oai_baseurl_apikey(agent_name="Ada", target_tag="solver")
        model = chat_openai(model=address.model, base_url=address.base_url, api_key=address.api_key)
        return [(await model.ainvoke(f"hi {turn}")).content for turn in range(2)]

    for _ in range(3):
        episode = run.one(program)
        # Content is stripped on its way to the program.
        assert [call.reply.strip() for call in episode.calls] == episode.metadata["said"], episode.error


def test_a_client_that_all_episodes_share_receives_every_reply_that_is_recorded(run: Run) -> None:
    """OpenAI's Agents SDK has one for the whole process, on whatever loops and threads it is awaited."""
    shared = httpx.AsyncClient(trust_env=False, timeout=20)

    async def program(tuner: AjetTuner) -> list[int]:
        address = tuner.as_oai_baseurl_apikey(agent_name="P1", target_tag="seer")
        url, key = f"{address.base_url}/chat/completions", {"Authorization": f"Bearer {address.api_key}"}
        return [(await shared.post(url, json={"messages": ASK}, headers=key)).status_code for _ in range(4)]

    episodes = run.play(lambda: Program(program=program), group_size=12)
    assert [episode.metadata.get("said") for episode in episodes] == [[200] * 4] * 12, episodes[0].error
    assert all(len(episode.calls) == 4 and not episode.num_undelivered_calls for episode in episodes)


def test_a_client_that_hangs_up_anywhere_leaves_no_traceback(
    tokenizer: Any, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    made = Run(tokenizer, endpoint=EndpointConfig(max_body_mib=0.1))

    def program(tuner: AjetTuner) -> int:
        address = tuner.as_oai_baseurl_apikey(agent_name="P1", target_tag="seer")
        host, port = address.base_url.removeprefix("http://").partition("/")[0].split(":")
        head = (
            f"POST {'/' + address.base_url.split('/', 3)[3]}/chat/completions HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Bearer {address.api_key}\r\nContent-Length: {{}}\r\n\r\n"
        )
        beginnings = [
            b"",
            b"POST",
            b"\x16\x03\x01 no HTTP\r\n\r\n",
            head.format(50).encode(),
            head.format(50).encode() + b'{"me',
        ]
        whole = b'{"stream": true, "messages": [{"role": "user", "content": "x"}]}'
        beginnings += [head.format(len(whole)).encode() + whole, b"GET /" + b"x" * 100_000]
        for beginning in beginnings:
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(beginning)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        return post(address).status_code

    episode = made.one(program)
    made.endpoint.close()
    assert episode.metadata["said"] == 200, episode.error
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]
    assert "Traceback" not in capfd.readouterr().err and threading.active_count() < 50
