"""The contract of every sampling engine as one reusable suite.

A test module subclasses one of three and gives it a `subject` fixture: the engine, and a reference that knows the
distribution of the weights which are in it now. `SamplingContract` is what every sampler keeps, `EngineContract` what
one keeps besides that is given weights and samples at any temperature, `ModelEngineContract` one that runs a real
model. Tests leave the subject's weights as they were.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import pytest
import torch

from ajet.engine.base import Engine, SamplingRequest
from ajet.errors import ContextOverflowError, EngineError
from ajet.records import Completion

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PROMPT = (7, 3, 11, 4, 9)
LOGPROB_TOLERANCE = 1e-5
TEMPERATURES = (0.7, 1.0, 1.3)
LENGTHS = tuple(range(1, 14))


class Subject(Protocol):
    """An engine under test and what is known about its model."""

    engine: Engine
    vocab_size: int

    def reference_logprobs(
        self, prompt_ids: Sequence[int], sampled_ids: Sequence[int], temperature: float
    ) -> list[float]:
        """Log-probability of each sampled id under the weights that are in the engine now."""
        ...

    def current_weights(self) -> Iterable[tuple[str, torch.Tensor]]:
        """The weights that are in the engine now, by name."""
        ...


class ModelSubject:
    """An engine that runs one of two transformers models of the same shape; each holds its own weights."""

    def __init__(self, engine: Engine, first: PreTrainedModel, other: PreTrainedModel) -> None:
        self.engine = engine
        self.vocab_size: int = first.config.vocab_size
        self.first, self.other = first, other
        self.current = first

    def load(self, model: PreTrainedModel) -> None:
        self.current = model
        self.engine.update_weights(self.current_weights(), self.engine.policy_version + 1)

    def current_weights(self) -> Iterable[tuple[str, torch.Tensor]]:
        return self.current.named_parameters()

    def reference_logprobs(
        self, prompt_ids: Sequence[int], sampled_ids: Sequence[int], temperature: float
    ) -> list[float]:
        with torch.no_grad():
            logits_TV = self.current(torch.tensor([[*prompt_ids, *sampled_ids]])).logits[0]
        logprobs_TV = torch.log_softmax(logits_TV[len(prompt_ids) - 1 : -1] / temperature, dim=-1)
        return logprobs_TV.gather(1, torch.tensor(sampled_ids)[:, None])[:, 0].tolist()


def make_request(**changes: Any) -> SamplingRequest:
    request = SamplingRequest(prompt_ids=PROMPT, max_tokens=12, temperature=1.0, seed=1)
    return replace(request, **changes)


def make_crowd(
    size: int, *, temperatures: Sequence[float] = TEMPERATURES, lengths: Sequence[int] = LENGTHS
) -> list[SamplingRequest]:
    """Requests of many lengths, some of which share a prefix."""
    return [
        make_request(
            prompt_ids=PROMPT * (1 + index % 7) + (index,) * (index % 5),
            max_tokens=lengths[index % len(lengths)],
            temperature=temperatures[index % len(temperatures)],
            seed=1000 + index,
        )
        for index in range(size)
    ]


async def gather(engine: Engine, requests: Iterable[SamplingRequest]) -> list[Completion]:
    return await asyncio.gather(*(engine.generate(request) for request in requests))


def complete(engine: Engine, *requests: SamplingRequest) -> list[Completion]:
    return asyncio.run(gather(engine, requests))


async def complete_amid_cancelled(engine: Engine, crowd: Sequence[SamplingRequest]) -> list[Completion]:
    """The crowd's completions, while one request is cancelled before it begins and one while it runs."""
    doomed_late = asyncio.create_task(engine.generate(make_request(max_tokens=60)))
    others = [asyncio.create_task(engine.generate(request)) for request in crowd]
    doomed_early = asyncio.create_task(engine.generate(make_request(max_tokens=60)))
    await asyncio.sleep(0)
    doomed_early.cancel()
    await others[0]
    doomed_late.cancel()
    completions = await asyncio.gather(*others)
    await asyncio.gather(doomed_early, doomed_late, return_exceptions=True)
    assert doomed_early.cancelled()
    return completions


class SamplingContract:
    """What holds for every sampler."""

    logprob_tolerance: ClassVar[float] = LOGPROB_TOLERANCE

    temperatures: ClassVar[tuple[float, ...]] = TEMPERATURES
    """Of a crowd's requests."""
    hottest: ClassVar[float] = 2.0
    lengths: ClassVar[tuple[int, ...]] = LENGTHS
    """Most tokens of a crowd's requests. An engine that compiles each anew is given few."""
    num_draws: ClassVar[int] = 2000
    num_distinct: ClassVar[int] = 20
    """Of 20 completions, where the model is not so sure of itself that two are alike by chance."""

    def crowd(self, size: int) -> list[SamplingRequest]:
        """`make_crowd` of what this engine takes."""
        return make_crowd(size, temperatures=self.temperatures, lengths=self.lengths)

    def test_ids_and_logprobs_are_as_many(self, subject: Subject) -> None:
        for completion in complete(subject.engine, *self.crowd(8)):
            assert len(completion.token_ids) == len(completion.logprobs) > 0
            assert all(0 <= token_id < subject.vocab_size for token_id in completion.token_ids)

    def test_max_tokens_are_kept_and_said_to_be_the_reason(self, subject: Subject) -> None:
        for max_tokens in (1, 2, 9):
            (completion,) = complete(subject.engine, make_request(max_tokens=max_tokens))
            assert len(completion.token_ids) == max_tokens
            assert completion.finish_reason == "length"

    def test_a_stop_id_ends_the_completion_and_stays_as_its_last_id(self, subject: Subject) -> None:
        (free,) = complete(subject.engine, make_request(max_tokens=12))
        stop_id = free.token_ids[6]
        stop_at = free.token_ids.index(stop_id) + 1
        (stopped,) = complete(subject.engine, make_request(max_tokens=12, stop_ids=(stop_id,)))
        assert stopped.token_ids == free.token_ids[:stop_at]
        assert stopped.finish_reason == "stop"
        assert len(stopped.logprobs) == stop_at

    def test_a_stop_id_sampled_as_the_very_last_one_counts_as_stop(self, subject: Subject) -> None:
        (free,) = complete(subject.engine, make_request(max_tokens=12))
        stop_at = free.token_ids.index(free.token_ids[6]) + 1
        request = make_request(max_tokens=stop_at, stop_ids=(free.token_ids[6],))
        assert complete(subject.engine, request)[0].finish_reason == "stop"

    def test_no_id_but_a_stop_id_ends_a_completion(self, subject: Subject) -> None:
        requests = [make_request(max_tokens=40, temperature=self.hottest, seed=seed) for seed in range(30)]
        completions = complete(subject.engine, *requests)
        assert {len(completion.token_ids) for completion in completions} == {40}

    def test_a_completion_is_cut_where_the_context_is_full(self, subject: Subject) -> None:
        prompt = (5,) * (subject.engine.max_context - 3)
        (completion,) = complete(subject.engine, make_request(prompt_ids=prompt, max_tokens=50))
        assert len(completion.token_ids) == 3
        assert completion.finish_reason == "length"

    @pytest.mark.parametrize("excess", [0, 1])
    def test_a_prompt_that_fills_the_context_is_an_error(self, subject: Subject, excess: int) -> None:
        prompt = (5,) * (subject.engine.max_context + excess)
        with pytest.raises(ContextOverflowError, match="no room"):
            complete(subject.engine, make_request(prompt_ids=prompt))

    def test_the_same_seed_gives_the_same_ids_alone_and_in_a_crowd(self, subject: Subject) -> None:
        request = make_request(max_tokens=20, seed=77)
        (alone,) = complete(subject.engine, request)
        crowded = complete(subject.engine, *self.crowd(11), request, *self.crowd(6))[11]
        assert crowded.token_ids == alone.token_ids
        assert crowded.logprobs == pytest.approx(alone.logprobs, abs=LOGPROB_TOLERANCE)

    def test_different_seeds_give_different_ids(self, subject: Subject) -> None:
        requests = [make_request(max_tokens=20, seed=seed) for seed in (*range(19), 2**64 - 3)]
        assert len({completion.token_ids for completion in complete(subject.engine, *requests)}) >= self.num_distinct

    def test_logprobs_are_those_of_the_distribution_after_temperature(self, subject: Subject) -> None:
        requests = self.crowd(24)
        for request, completion in zip(requests, complete(subject.engine, *requests), strict=True):
            expected = subject.reference_logprobs(request.prompt_ids, completion.token_ids, request.temperature)
            assert completion.logprobs == pytest.approx(
                expected, rel=self.logprob_tolerance, abs=self.logprob_tolerance
            )

    def test_ids_come_as_often_as_their_probability_says(self, subject: Subject) -> None:
        draws = self.num_draws
        requests = [make_request(max_tokens=1, seed=seed) for seed in range(draws)]
        completions = complete(subject.engine, *requests)
        counts = Counter(completion.token_ids[0] for completion in completions)
        for token_id, count in counts.most_common(5):
            (logprob,) = subject.reference_logprobs(PROMPT, [token_id], 1.0)
            probability = 2.718281828459045**logprob
            deviation = (draws * probability * (1 - probability)) ** 0.5
            assert abs(count - draws * probability) < 5 * deviation + 1

    def test_forty_concurrent_requests_all_come_back_in_their_own_order(self, subject: Subject) -> None:
        requests = self.crowd(40)
        completions = complete(subject.engine, *requests)
        assert [len(c.token_ids) for c in completions] == [r.max_tokens for r in requests]

    def test_cancelling_one_request_leaves_the_others_intact(self, subject: Subject) -> None:
        crowd = self.crowd(6)
        expected = complete(subject.engine, *crowd)
        completions = asyncio.run(complete_amid_cancelled(subject.engine, crowd))
        assert [c.token_ids for c in completions] == [c.token_ids for c in expected]


class EngineContract(SamplingContract):
    """What holds besides for an engine that is given weights and samples them here, at any temperature."""

    def test_a_low_temperature_samples_likelier_ids(self, subject: Subject) -> None:
        def mean_logprob(temperature: float) -> float:
            requests = [make_request(temperature=temperature, seed=seed) for seed in range(20)]
            completions = complete(subject.engine, *requests)
            logprobs = [logprob for completion in completions for logprob in completion.logprobs]
            return sum(logprobs) / len(logprobs)

        assert mean_logprob(0.3) > mean_logprob(1.0) > mean_logprob(1.8)

    def test_two_runs_of_one_program_are_identical_to_the_bit(self, subject: Subject) -> None:
        async def agent(index: int) -> list[Completion]:
            """Three calls that extend each other, as an agent's conversation does."""
            prompt: tuple[int, ...] = (*PROMPT, index)
            completions: list[Completion] = []
            for turn in range(3):
                request = make_request(prompt_ids=prompt, max_tokens=3 + (index + turn) % 5, seed=index)
                completions.append(await subject.engine.generate(request))
                prompt += completions[-1].token_ids
            return completions

        async def program() -> list[list[Completion]]:
            return await asyncio.gather(*(agent(index) for index in range(17)))

        asyncio.run(program())  # whatever an engine caches is cached now, for both runs alike
        assert asyncio.run(program()) == asyncio.run(program())

    def test_after_a_cancelled_request_nothing_is_left_running(self, subject: Subject) -> None:
        crowd = self.crowd(6)
        expected = complete(subject.engine, *crowd)
        asyncio.run(complete_amid_cancelled(subject.engine, crowd))
        subject.engine.update_weights(subject.current_weights(), subject.engine.policy_version + 1)
        assert [c.token_ids for c in complete(subject.engine, *crowd)] == [c.token_ids for c in expected]

    def test_completions_carry_the_policy_version_of_the_last_update(self, subject: Subject) -> None:
        version = subject.engine.policy_version + 5
        subject.engine.update_weights(subject.current_weights(), version)
        assert subject.engine.policy_version == version
        assert complete(subject.engine, make_request())[0].policy_version == version

    def test_an_id_outside_the_vocabulary_is_an_error_of_that_request(self, subject: Subject) -> None:
        async def program() -> list[Any]:
            requests = [make_request(), make_request(prompt_ids=(3, subject.vocab_size))]
            calls = [subject.engine.generate(request) for request in requests]
            return await asyncio.gather(*calls, return_exceptions=True)

        good, bad = asyncio.run(program())
        assert isinstance(good, Completion)
        assert isinstance(bad, EngineError)


class ModelEngineContract(EngineContract):
    """What holds besides for an engine that runs a real model, whose subject can change its weights."""

    def test_after_an_update_everything_comes_from_the_new_weights(self, subject: ModelSubject) -> None:
        prompt = PROMPT * 16  # long enough to lie in a prefix cache
        request = make_request(prompt_ids=prompt, max_tokens=10)
        (before,) = complete(subject.engine, request)
        subject.load(subject.other)
        (after,) = complete(subject.engine, request)
        assert after.token_ids != before.token_ids
        expected = subject.reference_logprobs(prompt, after.token_ids, 1.0)
        assert after.logprobs == pytest.approx(expected, abs=LOGPROB_TOLERANCE)
        subject.load(subject.first)
        assert complete(subject.engine, request)[0].token_ids == before.token_ids

    def test_an_update_while_a_request_runs_is_an_error(self, subject: ModelSubject) -> None:
        async def program() -> None:
            running = asyncio.create_task(subject.engine.generate(make_request()))
            await asyncio.sleep(0)
            with pytest.raises(EngineError, match="1 requests are running"):
                subject.engine.update_weights([], subject.engine.policy_version + 1)
            await running

        asyncio.run(program())

    def test_an_update_must_name_known_parameters_and_all_of_them(self, subject: ModelSubject) -> None:
        (expected,) = complete(subject.engine, make_request())
        version = subject.engine.policy_version
        weights = list(subject.current_weights())
        with pytest.raises(EngineError, match=r"lacks the weights of \['model.norm.weight'\]"):
            subject.engine.update_weights([pair for pair in weights if pair[0] != "model.norm.weight"], 1)
        with pytest.raises(EngineError, match="no parameter 'nonsense'"):
            subject.engine.update_weights([("nonsense", weights[0][1])], 1)
        with pytest.raises(EngineError, match="has shape"):
            subject.engine.update_weights([(weights[0][0], weights[0][1][:-1])], 1)
        assert subject.engine.policy_version == version
        subject.load(subject.current)
        assert complete(subject.engine, make_request())[0].token_ids == expected.token_ids

    def test_tied_weights_may_come_under_either_name_or_both(self, subject: ModelSubject) -> None:
        (before,) = complete(subject.engine, make_request())
        both = dict(subject.other.state_dict())
        output_only = {name: tensor for name, tensor in both.items() if "embed_tokens" not in name}
        assert {"lm_head.weight", "model.embed_tokens.weight"} <= set(both)
        subject.load(subject.other)
        (expected,) = complete(subject.engine, make_request())
        for weights in (both, output_only):
            subject.load(subject.first)
            assert complete(subject.engine, make_request())[0].token_ids == before.token_ids
            subject.engine.update_weights(weights.items(), 9)
            assert complete(subject.engine, make_request())[0].token_ids == expected.token_ids
        subject.load(subject.first)
