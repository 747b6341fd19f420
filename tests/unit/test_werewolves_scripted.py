"""Scripted players: they read their own requests, decide as their role would, and speak in one form."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ajet.chat.types import ChatReply, ChatRequest
from ajet.errors import ConfigError
from ajet.workflows.werewolves import prompts
from ajet.workflows.werewolves.bare import BarePlayers
from ajet.workflows.werewolves.decisions import Ask
from ajet.workflows.werewolves.game import ROLES, Game, deal_roles
from ajet.workflows.werewolves.params import DECISIONS_OF, ScriptedParams, scripted_params
from ajet.workflows.werewolves.play import Moderator
from ajet.workflows.werewolves.prompts import Decision
from ajet.workflows.werewolves.reading import Ballots, read
from ajet.workflows.werewolves.scripted import ScriptedPlayer

NINE = {"werewolf": 3, "villager": 3, "seer": 1, "witch": 1, "hunter": 1}
ROLES_BY_SEAT = ("villager", "seer", "werewolf", "werewolf", "witch", "hunter", "villager", "werewolf", "villager")


def request(
    seat: int, told: Sequence[str], decision: Decision, notes: str, seats: Sequence[int], **more: Any
) -> ChatRequest:
    """What the player at this seat is asked, after the lines that it was told."""
    lines = [*told, f"Moderator: {prompts.request(decision, 2, [notes])}"]
    return ChatRequest(
        messages=[
            {"role": "system", "content": prompts.system_prompt(seat, ROLES_BY_SEAT)},
            {"role": "user", "content": "<history>\n" + "\n".join(lines) + "\n</history>"},
        ],
        tools=[Ask(decision=decision, seats=tuple(seats), **more).tool()],
        tool_choice="required",
    )


def replies(asked: ChatRequest, *, num: int = 200, **params: float) -> list[ChatReply]:
    """What as many players answer."""
    habits = scripted_params(params)
    return [asyncio.run(ScriptedPlayer(rng=random.Random(seed), params=habits).chat(asked)) for seed in range(num)]


def fields(reply: ChatReply) -> dict[str, Any]:
    (call,) = reply.tool_calls
    decided: dict[str, Any] = json.loads(call.arguments)
    return decided


def share(asked: ChatRequest, wanted: Mapping[str, Any], **params: float) -> float:
    """How often the answer is the wanted one."""
    answers = replies(asked, num=200, **params)
    return sum(wanted.items() <= fields(answer).items() for answer in answers) / len(answers)


CLAIM = "Player2: I am the seer. Player3 is werewolf."
OTHERS = [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_seer_recites_and_tells_the_werewolf_it_saw() -> None:
    asked = request(
        1, ["Moderator: Player3 is werewolf."], "say", "Seen werewolf: Player3. Seen good: nobody.", [0, 2, 3, 4]
    )
    (reply,) = replies(asked, num=1, sense=1)
    assert reply.content == "Seen werewolf: Player3."
    assert reply.tool_calls[0].name == "generate_response"
    assert reply.tool_calls[0].arguments == '{"say": "werewolf", "target": "Player3"}'


def test_a_seer_without_a_werewolf_keeps_quiet_until_it_has_spoken_up() -> None:
    told = ["Moderator: Player5 is good."]
    notes = "Seen werewolf: nobody. Seen good: Player5."
    assert share(request(1, told, "say", notes, [0, 2, 4]), {"say": "pass"}, sense=1) == 1.0
    told += [CLAIM]
    assert share(request(1, told, "say", notes, [0, 2, 4]), {"say": "good", "target": "Player5"}, sense=1) == 1.0


def test_villagers_follow_a_credible_claim_more_often_than_not() -> None:
    asked = request(0, [CLAIM], "vote", "Called werewolf: Player3.", OTHERS)
    assert 0.8 < share(asked, {"target": "Player3"}) < 1.0
    assert share(asked, {"target": "Player3"}, follow=1) == 1.0


def test_villagers_do_not_follow_a_liar() -> None:
    told = ["Player9: I am the seer. Player4 is werewolf.", "Moderator: Day 2. Player4 died, hunter."]
    asked = request(0, told, "vote", "Called werewolf: nobody.", [1, 2, 4, 5, 6, 7, 8])
    assert share(asked, {"target": "Player9"}, follow=1) == 1.0


def test_villagers_lean_to_the_first_of_two_claims() -> None:
    told = [CLAIM, "Player3: I am the seer. Player2 is werewolf."]
    asked = request(0, told, "vote", "Called werewolf: Player2 Player3.", OTHERS)
    first = share(asked, {"target": "Player3"}, follow=1)
    assert 0.5 < first < 0.8
    assert first + share(asked, {"target": "Player2"}, follow=1) == 1.0


def test_villagers_notice_who_spared_a_werewolf() -> None:
    told = [
        CLAIM,
        "Moderator: Votes: Player1 for Player3, Player2 for Player3, Player4 for Player7, Player5 for Player3.",
        "Moderator: Player3 is voted out, werewolf.",
    ]
    asked = request(0, told, "vote", "Called werewolf: nobody.", [1, 3, 4, 5, 6])
    assert share(asked, {"target": "Player4"}, follow=1, insight=1) == 1.0
    assert share(asked, {"target": "nobody"}, insight=0, hunch=0) == 1.0


def test_of_two_werewolves_with_as_many_votes_the_first_named_counts() -> None:
    # Every pair: the order of a set would be right for some of them.
    for first, second in permutations([f"Player{i}" for i in range(1, 8)], 2):
        memory = read(request(0, [], "vote", "", [1]).messages)
        memory.revealed = {first: "werewolf", second: "werewolf"}
        memory.take(Ballots(votes=(("Player8", first), ("Player9", second))))
        assert memory.doubts() == {"Player8": 0, "Player9": 1}


def test_a_witch_saves_the_attacked_and_poisons_only_with_reason() -> None:
    attacked = request(
        4, [], "potions", "Potions: save poison. Attacked: Player1. Called werewolf: nobody.", [0, 1], may_save=True
    )
    assert share(attacked, {"save": True, "target": "nobody"}, sense=1) == 1.0
    quiet = request(4, [], "potions", "Potions: poison. Called werewolf: nobody.", [0, 1, 2])
    assert share(quiet, {"target": "nobody"}, sense=1) == 1.0
    called = request(4, [CLAIM], "potions", "Potions: poison. Called werewolf: Player3.", [0, 1, 2])
    assert share(called, {"target": "Player3"}, sense=1) == 1.0


def test_a_dying_hunter_shoots_the_accused() -> None:
    asked = request(5, [CLAIM], "shoot", "Called werewolf: Player3.", [0, 1, 2, 3])
    assert share(asked, {"target": "Player3"}) == 1.0
    assert share(request(5, [], "shoot", "Called werewolf: nobody.", [0, 1]), {"target": "nobody"}) == 1.0


def test_werewolves_never_name_a_partner() -> None:
    for decision, notes in (
        ("say", "Claimed seer: Player2. Partners: Player4 Player8."),
        ("vote", "Claimed seer: Player2."),
    ):
        asked = request(2, [CLAIM], decision, notes, [0, 1, 3, 4, 5, 6, 7, 8])  # type: ignore[arg-type]
        named = {fields(reply)["target"] for reply in replies(asked)}
        assert named.isdisjoint({"Player4", "Player8"})


def test_werewolves_agree_as_often_as_they_are_told_to() -> None:
    asked = request(2, [], "attack", "Proposed: Player6 Player1. Claimed seer: nobody.", [0, 1, 4, 5, 6, 8])
    assert share(asked, {"target": "Player6"}, wolf_agreement=1) == 1.0
    assert share(asked, {"target": "Player6"}, wolf_agreement=0) < 0.3


def test_werewolves_answer_a_claim_with_a_claim_now_and_then() -> None:
    asked = request(2, [CLAIM], "say", "Claimed seer: Player2. Partners: Player4 Player8.", OTHERS)
    assert share(asked, {"say": "werewolf", "target": "Player2"}, wolf_counterclaim=1) == 1.0
    assert share(asked, {"say": "werewolf"}, wolf_counterclaim=0) == 0.0


def test_without_sense_every_legal_choice_is_as_likely_and_notes_are_still_recited() -> None:
    asked = request(
        1, ["Moderator: Player3 is werewolf."], "vote", "Seen werewolf: Player3. Called werewolf: nobody.", [0, 2, 3]
    )
    answers = replies(asked, num=2000, sense_seer_vote=0)
    counts = Counter(fields(answer)["target"] for answer in answers)
    assert set(counts) == {"Player1", "Player3", "Player4", "nobody"}
    assert all(400 < count < 600 for count in counts.values())
    assert {answer.content for answer in answers} == {"Seen werewolf: Player3."}


def test_the_most_specific_sense_counts() -> None:
    assert scripted_params({"sense": 0.2, "sense_seer": 0.4, "sense_seer_vote": 0.6}).sense_of("seer", "vote") == 0.6
    assert scripted_params({"sense": 0.2, "sense_seer": 0.4}).sense_of("seer", "say") == 0.4
    assert scripted_params({"sense": 0.2}).sense_of("seer", "say") == 0.2, "over the default of the seer"
    assert scripted_params({"sense_seer_say": 0.2}).sense_of("seer", "vote") == ScriptedParams().sense["sense_seer"]


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"folow": 0.5}, "folow: scripted"),
        ({"follow": 1.5}, "between 0 and 1"),
        ({"sense_seer_potions": 1}, "sense_seer_po"),
    ],
)
def test_wrong_parameters_are_refused(params: dict[str, float], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        scripted_params(params)


def test_a_hint_of_the_agent_framework_does_not_hide_the_request() -> None:
    asked = request(0, [CLAIM], "vote", "Called werewolf: Player3.", OTHERS)
    hint = {"role": "user", "content": "<history>\nuser: <system-hint>Go on.</system-hint>\n</history>"}
    memory = read([*asked.messages, hint])
    assert memory.decision == "vote" and memory.notes == {"Called werewolf": ("Player3",)}


class Watched:
    """Plays as scripted, and checks the form of every reply."""

    def __init__(self, player: ScriptedPlayer) -> None:
        self.player = player

    async def chat(self, asked: ChatRequest) -> ChatReply:
        reply = await self.player.chat(asked)
        assert reply.content and reply.content in str(asked.messages[-1]["content"])
        assert len(reply.tool_calls) == 1
        return reply


@settings(max_examples=60)
@given(st.integers(0, 2**31 - 1), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 1.0]))
def test_whole_games_are_legal_and_recite_only_what_was_asked_with(number: int, sense: float, habit: float) -> None:
    roles = deal_roles(NINE, number)
    params = scripted_params({"sense": sense, "follow": habit, "insight": habit, "wolf_counterclaim": habit})
    players = [Watched(ScriptedPlayer(rng=random.Random(f"{number}/{s}"), params=params)) for s in range(9)]
    moderator = Moderator(
        game=Game(roles=roles, day_limit=8),
        players=BarePlayers(players, [prompts.system_prompt(s, roles) for s in range(9)]),
        random_number=number,
        discussion_rounds=1,
        public_votes=True,
        free_speech=False,
    )
    report = asyncio.run(moderator.play())
    assert report.metrics["default_moves"] == 0
    if sense == 1.0:
        assert (
            report.metrics.get("seer_says_known_wolf", 1.0) == report.metrics.get("seer_votes_known_wolf", 1.0) == 1.0
        )


def test_every_role_can_be_asked_for_everything_it_decides() -> None:
    assert set(DECISIONS_OF) == set(ROLES)
    assert {d for decisions in DECISIONS_OF.values() for d in decisions} == set(prompts.REQUESTS)


GAMES_BY_HASH_SEED = """
import asyncio, random
from tests.unit.test_werewolves_scripted import *

params = scripted_params({})
for number in range(40):
    roles = deal_roles(NINE, number)
    players = [ScriptedPlayer(rng=random.Random(f"{number}/{s}"), params=params) for s in range(9)]
    table = BarePlayers(players, [prompts.system_prompt(s, roles) for s in range(9)])
    moderator = Moderator(game=Game(roles=roles, day_limit=8), players=table, random_number=number, discussion_rounds=1,
                    public_votes=True, free_speech=False)
    print(asyncio.run(moderator.play()).events)
"""


def test_games_do_not_depend_on_how_a_process_hashes_names() -> None:
    root = Path(__file__).resolve().parents[2]
    played = [
        subprocess.run(
            [sys.executable, "-c", GAMES_BY_HASH_SEED],
            cwd=root,
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert played[0] == played[1] and played[0].count("Votes") > 40
