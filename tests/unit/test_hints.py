"""The word game: what a legal hint is, which words are trained on, and how well scripted players do."""

from __future__ import annotations

import asyncio
import random

import pytest

from ajet.chat.types import ChatRequest
from ajet.errors import ConfigError
from ajet.workflows.hints.game import (
    CATEGORIES,
    NUM_CHOICES,
    WRONG_GUESS_REWARD,
    ScriptedHinter,
    choices_in_order,
    held_out_words,
    is_legal_hint,
    read_guess,
    student_messages,
    teacher_messages,
    train_words,
)
from ajet.workflows.hints.workflow import Hints


def test_held_out_words_are_never_trained_on_not_even_as_choices() -> None:
    train, held_out = (
        {str(word) for task in tasks for word in (task["word"], *task["choices"])}  # type: ignore[misc]
        for tasks in (train_words(), held_out_words())
    )
    assert len(list(train_words())) == 160 and len(list(held_out_words())) == 80
    assert not train & held_out and train | held_out == {w for words in CATEGORIES.values() for w in words.split()}


def test_choices_are_of_different_categories_and_hold_the_word() -> None:
    category_of = {word: category for category, words in CATEGORIES.items() for word in words.split()}
    assert len(category_of) == 240  # no word stands twice
    for task in (*train_words(), *held_out_words()):
        choices = task["choices"]
        assert isinstance(choices, list) and len({category_of[choice] for choice in choices}) == NUM_CHOICES
        assert task["word"] in choices


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


def test_a_guess_is_one_of_the_choices_and_nothing_else() -> None:
    choices = ["dog", "moon"]
    assert [read_guess(reply, choices) for reply in ("dog", " Moon.\n", "the dog", "")] == ["dog", "moon", None, None]


def test_a_student_that_does_not_read_the_hint_earns_nothing_on_average() -> None:
    choices = ["a", "b", "c", "d"]
    listed = [choices_in_order(choices, repeat) for repeat in range(8)]
    for place in range(NUM_CHOICES):
        rewards = [1.0 if order[place] == "c" else WRONG_GUESS_REWARD for order in listed]
        assert sum(rewards) == pytest.approx(0), "of whatever place it names"
    assert all(sorted(order) == choices for order in listed)


def test_worked_examples_favour_no_place() -> None:
    messages = student_messages("hint", ["a", "b", "c", "d"])[1:-1]
    places = [
        asked["content"].removeprefix("Words: ").partition(". ")[0].split(", ").index(answered["content"])
        for asked, answered in zip(messages[::2], messages[1::2], strict=True)
    ]
    assert sorted(places) == sorted([*range(NUM_CHOICES)] * 2)


def test_scripted_players_understand_each_other_and_nobody_else() -> None:
    async def share(sense: float) -> float:
        found = 0
        tasks = list(held_out_words())
        for number, task in enumerate(tasks):
            word, choices = str(task["word"]), list(task["choices"])  # type: ignore[call-overload]
            player = ScriptedHinter(rng=random.Random(number), sense=sense)
            hint = (await player.chat(ChatRequest(messages=teacher_messages(word)))).content
            assert is_legal_hint(hint, word)
            guess = (await player.chat(ChatRequest(messages=student_messages(hint, choices)))).content
            found += read_guess(guess, choices) == word
        return found / len(tasks)

    assert asyncio.run(share(1.0)) == 1.0
    assert 0.1 < asyncio.run(share(0.0)) < 0.45


@pytest.mark.parametrize("params", [{"accuracy": 1.0}, {"sense": 2.0}])
def test_scripted_players_know_their_parameters(params: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="sense"):
        Hints.scripted_player(agent_name="student", target_tag="student", rng=random.Random(0), params=params)
