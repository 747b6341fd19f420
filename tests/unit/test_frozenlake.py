"""The frozen lake: what is told, which moves are good, and how well scripted players walk on gymnasium's ice."""

from __future__ import annotations

import random
from typing import Any

import pytest
from tests.solo import Speaker, assert_requests_extend_each_other, play, success_rate

from ajet.chat.types import ChatRequest
from ajet.config.root import Config
from ajet.config.workflow import WorkflowConfig
from ajet.errors import ConfigError
from ajet.workflows.frozenlake.game import ScriptedWalker, best_moves, landing, map_text, parse_move, rules, view_text
from ajet.workflows.frozenlake.workflow import FrozenLake
from ajet.workflows.parameters import workflow_maker

LAKE = ("SFFF", "FHFH", "FFFH", "HFFG")
"""gymnasium's own 4x4 map."""


def test_a_view_tells_the_place_what_lies_around_and_the_goal() -> None:
    assert view_text(LAKE, (0, 0)) == (
        "You are in row 1, column 1. Up: edge. Down: ice. Left: edge. Right: ice. The goal is 3 down, 3 right."
    )
    assert view_text(LAKE, (2, 2)).endswith("Up: ice. Down: ice. Left: ice. Right: hole. The goal is 1 down, 1 right.")
    assert view_text(LAKE, (3, 2)).endswith("Up: ice. Down: edge. Left: ice. Right: goal. The goal is 1 right.")
    assert map_text(LAKE) == "S F F F\nF H F H\nF F F H\nH F F G"


def test_a_step_over_the_edge_leads_nowhere() -> None:
    assert [landing(LAKE, (0, 3), move) for move in ("left", "down", "right", "up")] == [(0, 2), (1, 3), (0, 3), (0, 3)]


@pytest.mark.parametrize(
    ("reply", "move"),
    [
        ("left", "left"),
        (" Down. ", "down"),
        ("<think>\nright is a hole\n</think>\n\nup", "up"),
        ("go left", None),
        ("left right", None),
        ("l", None),
        ("2", None),
        ("", None),
    ],
)
def test_a_move_is_a_last_line_that_is_nothing_but_a_direction(reply: str, move: str | None) -> None:
    assert parse_move(reply) == move


def test_on_firm_ice_the_best_moves_lie_on_shortest_safe_paths() -> None:
    best = best_moves(LAKE, slippery=False)
    assert best[0, 0] == ("down", "right") and best[1, 0] == ("down",) and best[2, 1] == ("down", "right")
    # From the upper right corner, a dead end, the way leads back first.
    assert best[0, 3] == ("left",) and best[0, 2] == ("down",)
    # A detour where the straight way is closed.
    assert best_moves(("SFF", "HHF", "FFG"), slippery=False)[2, 0] == ("right",)
    assert best_moves(("SHF", "FHF", "FFG"), slippery=False)[0, 0] == ("down",)


def test_on_slippery_ice_the_best_moves_lean_away_from_holes() -> None:
    best = best_moves(LAKE, slippery=True)
    # Beside a hole the step away from it is the one that cannot slide into it.
    assert best[1, 0] == ("left",) and best[2, 0] == ("up",) and best[3, 2] == ("down",) and best[0, 0] == ("left",)


def request(cell: tuple[int, int], *, slippery: bool = False) -> ChatRequest:
    """What a walker is asked in its second turn."""
    return ChatRequest(
        messages=[
            {"role": "system", "content": rules(slippery=slippery, max_turns=12)},
            {"role": "user", "content": f"{map_text(LAKE)}\n{view_text(LAKE, (0, 0))}"},
            {"role": "assistant", "content": "jump"},
            {"role": "user", "content": f"That is not a move. {view_text(LAKE, cell)}"},
        ]
    )


def odds(asked: ChatRequest, sense: float) -> dict[str, float]:
    return {
        reply.content: chance for reply, chance in ScriptedWalker.of(random.Random(0), {"sense": sense}).choices(asked)
    }


def test_a_scripted_players_odds_are_the_best_moves_share_and_an_even_rest() -> None:
    assert odds(request((0, 2)), 0.4) == pytest.approx({"left": 0.15, "down": 0.55, "right": 0.15, "up": 0.15})
    assert odds(request((2, 1)), 0.4) == pytest.approx({"left": 0.15, "down": 0.35, "right": 0.35, "up": 0.15})
    assert odds(request((2, 0), slippery=True), 1)["up"] == 1


def test_the_best_moves_lead_over_every_lake() -> None:
    for size in (3, 4, 5):
        assert success_rate(FrozenLake(size=size), range(150), sense=1) > 0.99
    assert success_rate(FrozenLake(size=8), range(50), sense=1) == 1


def test_scripted_players_without_much_sense_leave_room_to_learn() -> None:
    assert success_rate(FrozenLake(), range(400), sense=0) < 0.06
    # 0.278 over 1000 lakes.
    assert 0.18 < success_rate(FrozenLake(), range(400), sense=0.35) < 0.33


def test_slippery_ice_is_harder_and_can_be_mastered_in_part() -> None:
    # 0.086 and 0.759 over 1000 lakes.
    assert success_rate(FrozenLake(slippery=True), range(100), sense=0) < 0.2
    assert 0.6 < success_rate(FrozenLake(slippery=True), range(100), sense=1) < 0.9


def test_a_walk_goes_on_until_the_goal() -> None:
    workflow = FrozenLake(size=3, hole_share=0)
    output, cast = play(workflow, 0, Speaker(["up", "fly", "right", "right", "down", "down"]))
    assert output.reward == 1 and output.is_success
    assert output.metadata == {"lake": ["SFF", "FFF", "FFG"], "moves": ["up", None, "right", "right", "down", "down"]}
    assert output.log_metrics == {"fell": 0, "illegal_moves": 1}
    assert cast.read(0) == (
        "S F F\nF F F\nF F G\n"
        "You are in row 1, column 1. Up: edge. Down: ice. Left: edge. Right: ice. The goal is 2 down, 2 right."
    )
    assert cast.read(1).startswith("You are in row 1, column 1. ")
    assert cast.read(2).startswith("That is not a move. You are in row 1, column 1. ")
    assert cast.read(5).startswith("You are in row 2, column 3. Up: ice. Down: goal. Left: ice. Right: edge.")
    assert_requests_extend_each_other(cast)


def test_turns_run_out() -> None:
    output, cast = play(FrozenLake(max_turns=5), 0, Speaker(["up"]))
    assert output.reward == 0 and output.is_success is False and len(cast.requests) == 5
    assert "You have 5 turns." in str(cast.requests[0].messages[0]["content"])


def test_a_hole_ends_the_walk() -> None:
    fell = [
        output
        for number in range(60)
        if (output := play(FrozenLake(), number, Speaker(["right"]))[0]).log_metrics["fell"]
    ]
    assert fell
    for output in fell:
        assert output.reward == 0 and output.metadata["lake"][0][len(output.metadata["moves"])] == "H"


@pytest.mark.parametrize("reply", ["", "right down", "<tool_call>", "RIGHT!"])
def test_malformed_replies_lead_nowhere(reply: str) -> None:
    output, _ = play(FrozenLake(size=3, hole_share=0), 0, Speaker([reply]))
    assert output.reward == 0 and output.log_metrics == {"fell": 0, "illegal_moves": 9}


def test_the_task_alone_draws_the_lake_and_the_slipping() -> None:
    def walk(number: int) -> tuple[Any, list[str]]:
        output, cast = play(FrozenLake(slippery=True, hole_share=0), number, Speaker(["right", "down"]))
        return output.metadata["lake"], [cast.read(turn) for turn in range(len(cast.requests))]

    assert [walk(number) for number in range(5)] == [walk(number) for number in range(5)]
    assert len({tuple(walk(number)[1]) for number in range(5)}) > 1
    assert len({tuple(play(FrozenLake(), n, Speaker(["up"]))[0].metadata["lake"]) for n in range(40)}) > 20


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"size": 2}, "workflow.params.size=2: Input should be greater than or equal to 3"),
        ({"size": 9}, "workflow.params.size=9: Input should be less than or equal to 8"),
        ({"hole_share": 0.7}, "workflow.params.hole_share=0.7: Input should be less than or equal to 0.6"),
        ({"max_turns": 0}, "workflow.params.max_turns=0: Input should be greater than or equal to 1"),
        (
            {"slip": True},
            "workflow.params.slip is not a field of FrozenLake; it has hole_share, max_turns, size, slippery",
        ),
    ],
)
def test_parameters_out_of_bounds_are_refused_in_one_sentence(params: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        workflow_maker(FrozenLake, Config(workflow=WorkflowConfig(entry="frozenlake", params=params)))
    assert str(caught.value) == words
