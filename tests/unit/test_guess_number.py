"""Guessing a number: what is told, what counts as a guess, and how well scripted players do in the workflow itself."""

from __future__ import annotations

import random

import pytest
from tests.solo import Speaker, assert_requests_extend_each_other, play, success_rate

from ajet.chat.types import ChatRequest
from ajet.config.root import Config
from ajet.config.workflow import WorkflowConfig
from ajet.errors import ConfigError
from ajet.workflows.guess_number.game import ScriptedGuesser, State, num_bisections, parse_guess, rules
from ajet.workflows.guess_number.workflow import GuessNumber
from ajet.workflows.parameters import workflow_maker

START = State(low=1, high=31, guesses_left=5)


def test_an_answer_tells_the_direction_and_the_range_that_is_left() -> None:
    assert START.as_text() == "It is from 1 to 31. Guesses left: 5."
    higher = START.after(16, secret=20)
    assert higher.as_text() == "Higher. It is from 17 to 31. Guesses left: 4."
    assert higher.after(24, secret=20).as_text() == "Lower. It is from 17 to 23. Guesses left: 3."


def test_a_guess_that_was_ruled_out_tells_nothing_new() -> None:
    state = State(low=17, high=23, guesses_left=3)
    for guess, word in ((5, "Higher."), (99, "Lower.")):
        assert state.after(guess, secret=20) == State(low=17, high=23, guesses_left=2, heard=word)


def test_a_reply_without_a_number_costs_a_guess() -> None:
    assert START.after(None, secret=20).as_text() == "That is not a number. It is from 1 to 31. Guesses left: 4."


@pytest.mark.parametrize(
    ("reply", "guess"),
    [
        ("16", 16),
        (" 7. ", 7),
        ("<think>\nthe middle of 1 and 31\n</think>\n\n16", 16),
        ("16 20", None),
        ("1\nor 2", None),
        ("My guess is 16", None),
        ("-3", None),
        ("1.5", None),
        ("²", None),
        ("9999999", None),
        ("", None),
    ],
)
def test_a_guess_is_a_last_line_that_is_nothing_but_a_number(reply: str, guess: int | None) -> None:
    assert parse_guess(reply) == guess


def test_bisection_needs_a_guess_more_for_twice_the_numbers() -> None:
    assert [num_bisections(n) for n in (2, 3, 4, 31, 32, 63, 100)] == [2, 2, 3, 5, 6, 6, 7]


def test_a_scripted_players_odds_are_the_middles_share_and_an_even_rest() -> None:
    said = State(low=17, high=20, guesses_left=2, heard="Higher.").as_text()
    asked = ChatRequest(messages=[{"role": "system", "content": rules(31, 5)}, {"role": "user", "content": said}])
    odds = {
        reply.content: chance for reply, chance in ScriptedGuesser.of(random.Random(0), {"sense": 0.4}).choices(asked)
    }
    assert odds == pytest.approx({"17": 0.15, "18": 0.55, "19": 0.15, "20": 0.15})


def test_bisection_always_finds_the_number() -> None:
    assert success_rate(GuessNumber(), range(200), sense=1) == 1
    assert success_rate(GuessNumber(num_numbers=100), range(200), sense=1) == 1


def test_scripted_players_without_much_sense_leave_room_to_learn() -> None:
    # By the recursion over ranges 0.490 and 0.591; a standard error of 600 games is 0.02.
    assert success_rate(GuessNumber(), range(600), sense=0) == pytest.approx(0.490, abs=0.06)
    assert success_rate(GuessNumber(), range(600), sense=0.35) == pytest.approx(0.591, abs=0.06)


def test_a_game_goes_on_until_the_number_is_found() -> None:
    secret = play(GuessNumber(num_numbers=7), 0, Speaker(["0"]))[0].metadata["secret"]
    output, cast = play(GuessNumber(num_numbers=7), 0, Speaker(["0", "what?", str(secret)]))
    assert output.reward == 1 and output.is_success and output.metadata["guesses"] == [0, None, secret]
    assert output.log_metrics == {"guesses": 3, "illegal_replies": 1, "ruled_out_guesses": 1}
    assert [cast.read(turn) for turn in range(3)] == [
        "It is from 1 to 7. Guesses left: 3.",
        "Higher. It is from 1 to 7. Guesses left: 2.",
        "That is not a number. It is from 1 to 7. Guesses left: 1.",
    ]
    assert_requests_extend_each_other(cast)


@pytest.mark.parametrize("reply", ["", "1 2 3 4 5 6 7", "<tool_call>", "1, 2, 3, 4"])
def test_malformed_replies_win_nothing(reply: str) -> None:
    for number in range(20):
        output, _ = play(GuessNumber(num_numbers=7), number, Speaker([reply]))
        assert output.reward == 0 and output.is_success is False
        assert output.log_metrics == {"guesses": 3, "illegal_replies": 3, "ruled_out_guesses": 0}


def test_secrets_are_spread_over_all_numbers_and_fixed_by_the_task() -> None:
    secrets = [play(GuessNumber(num_numbers=7), number, Speaker(["0"]))[0].metadata["secret"] for number in range(99)]
    again = [play(GuessNumber(num_numbers=7), number, Speaker(["9"]))[0].metadata["secret"] for number in range(99)]
    assert secrets == again and set(secrets) == set(range(1, 8))


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"num_numbers": 1}, "workflow.params.num_numbers=1: Input should be greater than or equal to 2"),
        ({"num_numbers": 1000}, "workflow.params.num_numbers=1000: Input should be less than or equal to 999"),
        ({"num_guesses": 0}, "workflow.params.num_guesses=0: Input should be greater than or equal to 1"),
        ({"numbers": 9}, "workflow.params.numbers is not a field of GuessNumber; it has num_guesses, num_numbers"),
    ],
)
def test_parameters_out_of_bounds_are_refused_in_one_sentence(params: dict[str, int], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        workflow_maker(GuessNumber, Config(workflow=WorkflowConfig(entry="guess_number", params=params)))
    assert str(caught.value) == words
