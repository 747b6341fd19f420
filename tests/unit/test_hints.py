"""The word game: what a legal hint is, which words are trained on, and how well scripted players do."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from ajet.chat.types import ChatRequest
from ajet.errors import ConfigError
from ajet.workflows.hints.game import (
    KINDS,
    ScriptedHinter,
    held_out_words,
    is_legal_hint,
    read_guess,
    student_messages,
    teacher_messages,
    train_words,
)
from ajet.workflows.hints.workflow import Hints


def test_held_out_words_are_never_trained_on() -> None:
    train, held_out = ({str(task["word"]) for task in tasks} for tasks in (train_words(), held_out_words()))
    assert len(train) == 160 and len(held_out) == 80 and not train & held_out
    assert train | held_out == {word for words in KINDS.values() for word in words.split()}


def test_each_word_is_of_one_kind_and_each_kind_has_as_many() -> None:
    tasks = [*train_words(), *held_out_words()]
    assert len({task["word"] for task in tasks}) == len(tasks) == 240
    for part, each in ((train_words(), 20), (held_out_words(), 10)):
        assert set(Counter(str(task["kind"]) for task in part).items()) == {(kind, each) for kind in KINDS}


@pytest.mark.parametrize(
    ("hint", "is_legal"),
    [
        ("bark, tail, puppy", True),
        ("", False),
        ("a Dog", False),
        ("doggy, tail", False),
        ("hotdogs", True),
        ("bark\ntail", False),
        ("x" * 81, False),
    ],
)
def test_a_hint_is_one_short_line_without_the_word(hint: str, is_legal: bool) -> None:
    assert is_legal_hint(hint, "dog") is is_legal


def test_a_form_of_the_word_is_no_hint_either() -> None:
    assert not is_legal_hint("dancing, ballet", "dance") and is_legal_hint("ballet, stage", "dance")


def test_a_guess_is_one_of_the_kinds_and_nothing_else() -> None:
    replies = ("animal", " Tool.\n", "an animal", "")
    assert [read_guess(reply) for reply in replies] == ["animal", "tool", None, None]


def test_worked_examples_favour_no_kind_and_show_no_word_of_the_game() -> None:
    words = {word for listed in KINDS.values() for word in listed.split()}
    for messages in (teacher_messages("moon"), student_messages("it shines at night")):
        answers = [str(message["content"]) for message in messages if message["role"] == "assistant"]
        named = Counter(kind for answer in answers for kind in KINDS if kind in answer)
        assert set(named.items()) == {(kind, 2) for kind in KINDS}
        assert messages[-1]["role"] == "user"
    shown = {str(m["content"]).removeprefix("Word: ") for m in teacher_messages("x") if m["role"] == "user"}
    assert not shown & words


def test_scripted_players_understand_each_other_and_nobody_else() -> None:
    async def share(sense: float) -> float:
        found = 0
        tasks = list(held_out_words())
        for number, task in enumerate(tasks):
            word = str(task["word"])
            player = ScriptedHinter(rng=random.Random(number), sense=sense)
            hint = (await player.chat(ChatRequest(messages=teacher_messages(word)))).content
            assert is_legal_hint(hint, word)
            guess = (await player.chat(ChatRequest(messages=student_messages(hint)))).content
            found += read_guess(guess) == task["kind"]
        return found / len(tasks)

    assert asyncio.run(share(1.0)) == 1.0
    assert 0.02 < asyncio.run(share(0.0)) < 0.3


@pytest.mark.parametrize("params", [{"accuracy": 1.0}, {"sense": 2.0}])
def test_scripted_players_know_their_parameters(params: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="sense"):
        Hints.scripted_player(agent_name="student", target_tag="student", rng=random.Random(0), params=params)
