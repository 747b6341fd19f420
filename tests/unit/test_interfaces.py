"""The tuner's three interfaces in real episodes: the same roles on each, programs that block, keys that end."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import openai
import pytest
from recipes.small_models.tokenizer import train_tokenizer
from tests.episodes import ASK, Run, by_agentscope, by_sdk, by_url, post
from transformers import PreTrainedTokenizerBase

from ajet.chat.types import ChatModel
from ajet.errors import ConfigError
from ajet.rollout.agent_model import OVERFLOW_REPLY
from ajet.rollout.agents.openai_sdk import OpenAIClient
from ajet.rollout.endpoint.config import EndpointConfig
from ajet.rollout.opponents.random import PHRASES, RandomPlayer
from ajet.tuner import AjetTuner, OpenAIAddress


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(["hello"], vocab_size=280, max_context=256)


@pytest.fixture
def run(tokenizer: PreTrainedTokenizerBase) -> Any:
    made = Run(tokenizer)
    yield made
    made.endpoint.close()


def test_one_seed_samples_the_same_reply_on_every_interface(run: Run) -> None:
    episodes = [run.one(program) for program in (by_agentscope, by_sdk, by_url)]
    assert [episode.status for episode in episodes] == ["ok"] * 3, [episode.error for episode in episodes]
    first, *others = (episode.calls for episode in episodes)
    assert len(first) == 1 and all(calls == first for calls in others)
    assert len({episode.metadata["said"] for episode in episodes}) == 1
    assert all(episode.agent_tags == {"P1": "seer"} and episode.rewards == {"P1": 1.0} for episode in episodes)


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
    with pytest.raises(ConfigError, match="opponent="):
        run.one(program, trainable_targets=["other"])


def test_a_debug_model_speaks_where_no_opponent_is_set_and_not_where_one_is(tokenizer: Any) -> None:
    own = OpenAIAddress(base_url="http://127.0.0.1:9/v1", api_key="mine", model="own")

    async def asked(tuner: AjetTuner) -> list[Any]:
        address = tuner.as_oai_baseurl_apikey(target_tag="x", debug_model=own)
        client = tuner.as_raw_openai_sdk_client(target_tag="x", debug_model=own)
        return [address, str(client.base_url), client.api_key, getattr(client, "model", None)]

    alone, played = Run(tokenizer), Run(tokenizer, opponent=random_player)
    alone.one(asked, trainable_targets=["other"])
    assert alone.said == [own, "http://127.0.0.1:9/v1/", "mine", "own"]
    played.one(asked, trainable_targets=["other"])
    address, *others = played.said
    played.endpoint.close()
    assert address.model == "ajet-x" and others[1] != "mine"


def test_an_sdk_client_of_the_users_own_is_handed_out_as_it_is(run: Run) -> None:
    own = openai.AsyncOpenAI(api_key="mine", base_url="http://127.0.0.1:9/v1")

    def asked(tuner: AjetTuner) -> Any:
        return tuner.as_raw_openai_sdk_client(target_tag="x", debug_model=own)

    run.one(asked, trainable_targets=["other"])
    assert run.said is own


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
    whole, pieces, raw, listed, name = run.said
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
        ["unsupported_parameter", "top_p"],
        ["context_length_exceeded", "messages"],
        True,
        1,
    ]
    assert episode.num_context_overflows == 1


@pytest.mark.parametrize("ask", [by_agentscope, by_sdk, by_url])
def test_after_an_overflow_a_program_may_go_on_with_a_reply_that_is_no_call(tokenizer: Any, ask: Any) -> None:
    made = Run(tokenizer, max_context=4, reply_on_overflow=True)

    async def program(tuner: AjetTuner) -> list[Any]:
        said = ask(tuner)
        said = await said if asyncio.iscoroutine(said) else said
        return [said, tuner.get_context_tracker().context_overflow]

    episode = made.one(program)
    made.endpoint.close()
    assert episode.status == "ok" and episode.metadata["said"] == [OVERFLOW_REPLY.content, True], episode.error
    assert episode.calls == () and episode.num_context_overflows == 1 and episode.num_undelivered_calls == 0


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


def with_top_p(interface: str) -> Any:
    async def program(tuner: AjetTuner) -> str:
        if interface == "agentscope":
            await tuner.as_agentscope_model(agent_name="P1", target_tag="seer")(ASK, top_p=0.5)
        elif interface == "sdk":
            client = tuner.as_raw_openai_sdk_client(agent_name="P1", target_tag="seer")
            await client.chat.completions.create(messages=ASK, model="any", top_p=0.5)
        else:
            answer = post(tuner.as_oai_baseurl_apikey(agent_name="P1", target_tag="seer"), top_p=0.5)
            if answer.status_code != 200:
                raise RuntimeError(answer.json()["error"]["message"])
        return "said"

    return program


@pytest.mark.parametrize("interface", ["agentscope", "sdk", "url"])
def test_what_a_trained_agent_may_not_ask_for_is_the_same_on_every_interface(
    tokenizer: Any, interface: str, caplog: pytest.LogCaptureFixture
) -> None:
    strict, lenient = Run(tokenizer), Run(tokenizer, endpoint=EndpointConfig(unsupported="ignore"))
    untrained = Run(tokenizer, opponent=random_player)
    refused = strict.one(with_top_p(interface))
    assert refused.status == "infra_error" and "top_p would make the sampled distribution differ" in str(refused.error)
    assert lenient.one(with_top_p(interface)).status == "ok"
    (warning,) = (record.getMessage() for record in caplog.records if "top_p" in record.getMessage())
    assert warning.startswith("top_p is dropped (endpoint.unsupported=ignore)") and warning.endswith("leave it out.")
    assert untrained.one(with_top_p(interface), trainable_targets=["other"]).status == "ok"
    for made in (strict, lenient, untrained):
        made.endpoint.close()


def test_an_address_does_not_show_its_key() -> None:
    assert "secret" not in repr(OpenAIAddress(base_url="u", api_key="secret", model="m"))


async def asked_again(tuner: AjetTuner) -> list[Any]:
    """One agent whose model is asked for anew at each turn, on another interface each time."""
    said: list[Any] = []
    messages: list[Any] = [*ASK]
    for turn in range(3):
        if turn == 1:
            model = tuner.as_agentscope_model(agent_name="P1", target_tag="seer")
            blocks = (await model(messages)).content
            text = "".join(block["text"] for block in blocks)
        else:
            client: Any = tuner.as_raw_openai_sdk_client(agent_name="P1", target_tag="seer")
            text = (await client.chat.completions.create(messages)).choices[0].message.content
        said.append(text)
        messages += [{"role": "assistant", "content": text}, *ASK]
    return said


def test_an_agent_whose_model_is_asked_for_again_goes_on_from_its_recorded_ids(run: Run) -> None:
    episode = run.one(asked_again)
    first, second, third = episode.calls
    for call, earlier in ((second, first), (third, second)):
        recorded = earlier.prompt_ids + earlier.sampled_ids
        assert call.prompt_ids[: len(recorded)] == recorded
    assert run.one(asked_again).calls == episode.calls


async def everybody_calls(tuner: AjetTuner) -> list[str]:
    """Ids of replies and calls of three agents, one asked through two models, on every interface."""
    ids: list[str] = []
    tools: Any = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    for name in ("P1", "P2", "P1", "P3"):
        model = tuner.as_agentscope_model(agent_name=name, target_tag=name)
        client: Any = tuner.as_raw_openai_sdk_client(agent_name=name, target_tag=name)
        address = tuner.as_oai_baseurl_apikey(agent_name=name, target_tag=name)
        for _ in range(2):
            response = await model(ASK, tools=tools, tool_choice="required")
            ids += [response.id, *(block["id"] for block in response.content if block["type"] == "tool_use")]
            completion = await client.chat.completions.create(ASK, tools=tools, tool_choice="required")
            ids += [completion.id, *(call.id for call in completion.choices[0].message.tool_calls)]
            said = (await asyncio.to_thread(post, address, tools=tools, tool_choice="required")).json()
            ids += [said["id"], *(call["id"] for call in said["choices"][0]["message"]["tool_calls"])]
    return ids


def test_ids_of_replies_and_calls_are_unique_in_an_episode_and_the_same_in_two_runs(tokenizer: Any) -> None:
    seen = []
    for _ in range(2):
        made = Run(tokenizer, opponent=random_player)
        episode = made.one(everybody_calls, trainable_targets=["other"])
        made.endpoint.close()
        seen.append(episode.metadata["said"])
    assert seen[0] == seen[1] and len(seen[0]) == len(set(seen[0])) == 4 * 2 * 6, seen


def test_two_models_of_one_agent_draw_differently(run: Run) -> None:
    async def twins(tuner: AjetTuner) -> None:
        models = [tuner.as_agentscope_model(agent_name="P1", target_tag="seer") for _ in range(2)]
        await asyncio.gather(*(model(ASK) for model in models for _ in range(2)))

    calls = run.one(twins).calls
    assert len({call.prompt_ids for call in calls}) == 1 and len({call.sampled_ids for call in calls}) == 4
