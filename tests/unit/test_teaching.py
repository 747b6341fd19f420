"""What the small model's teachers tell: all their replies with odds, and rows that keep these odds token by token."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from recipes.small_models.fitting import Row, weighted_loss
from recipes.small_models.mixtures import MIXTURES
from recipes.small_models.rows import DECISION_WEIGHT, PROMPT_WEIGHT, make_row
from recipes.small_models.slips import wrong_call, wrong_words
from recipes.small_models.tokenizer import train_tokenizer
from recipes.small_models.transcripts import Transcript, odds_along, play_transcripts

from ajet.chat.types import ChatRequest
from ajet.config.root import Config
from ajet.workflows.signals.game import (
    DIALECTS,
    OBJECTS,
    SHARED_CODE,
    WORDS,
    ScriptedSignaller,
    listener_prompt,
    speaker_prompt,
)
from ajet.workflows.werewolves import prompts
from ajet.workflows.werewolves.decisions import Ask
from ajet.workflows.werewolves.params import scripted_params
from ajet.workflows.werewolves.scripted import ScriptedPlayer


def vote() -> ChatRequest:
    """A villager votes between seats 2 and 4, or nobody; a seer has called seat 4 a werewolf."""
    asked = prompts.request("vote", 1, [prompts.note(prompts.CALLED_WEREWOLF, [4])])
    return ChatRequest(
        messages=[
            {"role": "system", "content": "You are Player1, the villager."},
            {
                "role": "user",
                "content": f"<history>\nPlayer3: I am the seer. Player5 is werewolf.\nModerator: {asked}\n</history>",
            },
        ],
        tools=[Ask(decision="vote", seats=(2, 4)).tool()],
        tool_choice="required",
    )


def test_a_teachers_odds_are_the_share_of_its_replies() -> None:
    player = ScriptedPlayer(rng=random.Random(0), params=scripted_params({"sense": 0.4, "follow": 1.0}))
    odds = {reply.tool_calls[0].arguments: chance for reply, chance in player.choices(vote())}
    # Sensible with 0.4 means Player5; the other 0.6 are spread over Player3, Player5 and nobody.
    assert odds == pytest.approx(
        {'{"target": "Player3"}': 0.2, '{"target": "Player5"}': 0.6, '{"target": "nobody"}': 0.2}
    )
    drawn = Counter(asyncio.run(player.chat(vote())).tool_calls[0].arguments for _ in range(2000))
    for reply, chance in odds.items():
        assert drawn[reply] / 2000 == pytest.approx(chance, abs=0.05)


def test_odds_along_a_reply_are_those_of_the_alternatives_that_agree_so_far() -> None:
    alternatives = [(1, 2, 9), (1, 3, 9), (4, 9)]
    odds = odds_along((1, 3, 9), alternatives, (0.25, 0.25, 0.5))
    assert odds == (((1, 0.5), (4, 0.5)), ((2, 0.5), (3, 0.5)), ((9, 1.0),))


def test_a_row_weighs_reading_writing_and_deciding_differently() -> None:
    transcript = Transcript(
        token_ids=(5, 6, 7, 8), odds=(None, None, ((3, 0.25), (7, 0.75)), ((8, 1.0),)), target_tag="seer"
    )
    row = make_row(transcript)
    assert row.places_E.tolist() == [1, 2, 2, 3] and row.targets_E.tolist() == [6, 3, 7, 8]
    assert row.weights_E.tolist() == pytest.approx([PROMPT_WEIGHT, 0.25 * DECISION_WEIGHT, 0.75 * DECISION_WEIGHT, 1.0])


def test_the_loss_is_the_weighted_cross_entropy_of_all_targets() -> None:
    class Fixed:
        """Predicts token t with probability (t + 1) / 6 everywhere, of three tokens."""

        def __call__(self, input_ids: torch.Tensor) -> object:
            logits = torch.tensor([1.0, 2.0, 3.0]).log().expand(*input_ids.shape, 3)
            return type("Output", (), {"logits": logits})

    first = Row(
        ids_T=np.array([0, 1], np.int16),
        places_E=np.array([1, 1], np.int16),
        targets_E=np.array([0, 2], np.int16),
        weights_E=np.array([1.0, 3.0], np.float32),
    )
    second = Row(
        ids_T=np.array([0, 1, 2], np.int16),
        places_E=np.array([2], np.int16),
        targets_E=np.array([1], np.int16),
        weights_E=np.array([2.0], np.float32),
    )
    expected = -(1 * np.log(1 / 6) + 3 * np.log(3 / 6) + 2 * np.log(2 / 6)) / 6
    assert float(weighted_loss(Fixed(), [first, second])) == pytest.approx(expected, abs=1e-6)


def test_a_slip_is_seldom_what_was_meant_where_a_target_is_named() -> None:
    text = 'Seen good: nobody.<tool_call>{"name": "generate_response", "arguments": {"target": "Player2"}}</tool_call>'
    kinds = Counter(wrong_call(text, vote(), random.Random(seed)) == text for seed in range(300))
    # Of 6 slips in 10, which draw a name, one in nine draws the same.
    assert kinds[False] > 250


def test_a_call_without_a_target_mostly_survives_a_slip() -> None:
    text = '<tool_call>{"name": "generate_response", "arguments": {"save": true}}</tool_call>'
    kinds = Counter(wrong_call(text, vote(), random.Random(seed)) == text for seed in range(300))
    assert kinds[True] / 300 == pytest.approx(0.6, abs=0.1)


@pytest.mark.parametrize("code", [SHARED_CODE, DIALECTS])
def test_a_signaller_keeps_to_its_code_as_often_as_it_is_told(code: int) -> None:
    player = ScriptedSignaller(rng=random.Random(0), accuracy=0.4, code=code)
    asked = ChatRequest(messages=[{"role": "user", "content": speaker_prompt("star", WORDS[:4])}])
    odds = dict((reply.content, chance) for reply, chance in player.choices(asked))
    assert sorted(odds.values()) == pytest.approx([0.15, 0.15, 0.15, 0.55])


def test_the_dialects_understand_one_object_in_four_and_the_shared_code_all() -> None:
    assert agreement(DIALECTS) == Fraction(1, 4)
    assert agreement(SHARED_CODE) == 1
    # Nor does a dialect agree with a partner who speaks the shared code.
    assert said(DIALECTS, "star") != said(SHARED_CODE, "star")


def agreement(code: int) -> Fraction:
    """Share of four objects that the code's listener understands from the code's speaker."""
    matches = [heard(code, said(code, thing)) == thing for thing in OBJECTS[:4]]
    return Fraction(sum(matches), len(matches))


def said(code: int, thing: str) -> str:
    player = ScriptedSignaller(rng=random.Random(0), accuracy=1.0, code=code)
    asked = ChatRequest(messages=[{"role": "user", "content": speaker_prompt(thing, WORDS[:4])}])
    return asyncio.run(player.chat(asked)).content


def heard(code: int, word: str) -> str:
    player = ScriptedSignaller(rng=random.Random(0), accuracy=1.0, code=code)
    asked = ChatRequest(messages=[{"role": "user", "content": listener_prompt(word, OBJECTS[:4])}])
    return asyncio.run(player.chat(asked)).content


TASKS = MIXTURES["tiny_tasks"]


@pytest.fixture(scope="module")
def byte_tokenizer() -> Any:
    return train_tokenizer([], vocab_size=300, max_context=4096)


def taught(name: str, tokenizer: Any, **changes: Any) -> list[Transcript]:
    """Three games of a part of the tasks' mixture."""
    part = TASKS.parts[name]
    return play_transcripts(
        part.make_workflow,
        config=Config(),
        tokenizer=tokenizer,
        make_params=part.make_params,
        make_task=part.make_task,
        games=range(3),
        stream="test",
        slips=replace(part.slips, **changes),
    )


@pytest.mark.parametrize("name", TASKS.parts)
def test_a_part_of_the_mixture_teaches_decisions_with_their_odds(name: str, byte_tokenizer: Any) -> None:
    rows = taught(name, byte_tokenizer)
    assert len(rows) >= 3
    told = [odds for row in rows for odds in row.odds if odds is not None]
    assert all(sum(chance for _, chance in odds) == pytest.approx(1) for odds in told)
    assert any(len(odds) > 1 and max(chance for _, chance in odds) < 1 for odds in told)
    assert taught(name, byte_tokenizer) == rows


@pytest.mark.parametrize("name", TASKS.tokenizer_parts)
def test_replies_gone_wrong_are_played_through_and_never_imitated(name: str, byte_tokenizer: Any) -> None:
    assert taught(name, byte_tokenizer, share=1.0) == []
    mixed = taught(name, byte_tokenizer, share=0.3)
    assert any(odds is not None for row in mixed for odds in row.odds)


def test_a_sentence_goes_wrong_in_several_ways() -> None:
    request = ChatRequest(messages=[{"role": "user", "content": "Higher. It is from 17 to 31."}])
    wrong = {wrong_words("24", request, random.Random(seed)) for seed in range(200)}
    assert {"", "2", "I do not know.", "Higher"} <= wrong
    assert any(text.isdigit() and int(text) > 31 for text in wrong)
