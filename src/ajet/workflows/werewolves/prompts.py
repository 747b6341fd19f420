"""Every text of the game: what players are told and how what they decide is said aloud.

Pure, short and regular on purpose: a small model pays for every token and learns regular sentences, and scripted
players read the same lines (`reading.py`). A request is `Day 2. Vote. Called werewolf: Player5.`: when, what to do,
notes. A note is a label and names, so that a player's reply can open by repeating it and then name the same player:
for a small transformer that is copying. Notes repeat only what that player was told or heard before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ajet.workflows.werewolves.game import WEREWOLF

MODERATOR = "Moderator"
NOBODY = "nobody"

Statement = Literal["pass", "suspect", "werewolf", "good"]
PASS, SUSPECT, CALL_WEREWOLF, CALL_GOOD = "pass", "suspect", "werewolf", "good"
STATEMENTS: tuple[Statement, ...] = ("pass", "suspect", "werewolf", "good")
"""What can be said: nothing; a suspicion; as the seer, that somebody is a werewolf, or good."""

Decision = Literal["propose", "attack", "potions", "check", "say", "last_words", "vote", "shoot"]
REQUESTS: dict[Decision, str] = {
    "propose": "Propose whom to attack.",
    "attack": "Decide whom to attack.",
    "potions": "Use your potions.",
    "check": "Check somebody.",
    "say": "Speak.",
    "last_words": "You are voted out. Last words.",
    "vote": "Vote.",
    "shoot": "You die. Shoot somebody.",
}
"""How each decision is asked for."""
AT_NIGHT = frozenset({"propose", "attack", "potions", "check"})

SEEN_WEREWOLF, SEEN_GOOD = "Seen werewolf", "Seen good"
CALLED_WEREWOLF, CLAIMED_SEER = "Called werewolf", "Claimed seer"
PARTNERS, PROPOSED, ATTACKED = "Partners", "Proposed", "Attacked"

RULES = (
    "Werewolves know each other and attack one player each night. The seer checks one player each night. The witch can "
    "save once and poison once. The hunter shoots somebody when dying, unless poisoned. By day everyone speaks, then "
    "votes; who has the most votes is out, a tie spares all. Good wins when no werewolf is left; werewolves win when "
    "they are at least as many as the others, or after day {day_limit}. Decide by calling generate_response: say is "
    "pass, suspect, or a claim to be the seer who saw that the target is a werewolf or good."
)


def player_name(seat: int) -> str:
    """The name that players know a seat by: seats count from 0, names from 1, so seat 0 is `Player1`."""
    return f"Player{seat + 1}"


def system_prompt(seat: int, roles: Sequence[str], rules: str = "") -> str:
    """Who the player is, and for werewolves who the others are."""
    sentences = [f"You are {player_name(seat)}, the {roles[seat]}."]
    if roles[seat] == WEREWOLF:
        sentences.append(note(PARTNERS, [s for s, role in enumerate(roles) if role == WEREWOLF and s != seat]))
    return " ".join([*sentences, *([rules] if rules else [])])


def rules(day_limit: int) -> str:
    """The game in a few sentences, for players who do not know it."""
    return RULES.format(day_limit=day_limit)


def request(decision: Decision, day: int, notes: Sequence[str]) -> str:
    """The moderator's request for a decision: night or day, its number, what to decide, the player's notes."""
    when = "Night" if decision in AT_NIGHT else "Day"
    return " ".join([f"{when} {day}. {REQUESTS[decision]}", *notes])


def note(label: str, seats: Sequence[int]) -> str:
    """A note in the request: a label and names, e.g. `Seen good: Player2 Player3.`; `nobody` where there are none."""
    return f"{label}: {' '.join(player_name(seat) for seat in seats) or NOBODY}."


def potions_note(*, can_save: bool, can_poison: bool) -> str:
    """Which potions the witch has."""
    return f"Potions: {' '.join(word for word, has in (('save', can_save), ('poison', can_poison)) if has)}."


def proposal(target: int | None) -> str:
    """What the other werewolves hear."""
    return f"I propose {_name(target)}."


def seer_answer(seat: int, *, is_wolf: bool) -> str:
    """The moderator's answer to the seer alone, e.g. `Player4 is werewolf.`"""
    return f"{player_name(seat)} is {'werewolf' if is_wolf else 'good'}."


def morning(day: int, deaths: Sequence[tuple[int, str]]) -> str:
    """Who died in the night, with roles."""
    died = " ".join(f"{player_name(seat)} died, {role}." for seat, role in deaths)
    return f"Day {day}. {died or 'Nobody died.'}"


def shot(seat: int, role: str) -> str:
    """Whom the hunter took along."""
    return f"The hunter shot {player_name(seat)}, {role}."


def statement(kind: str, about: int | None, words: str = "") -> str:
    """A decision in discussion as the sentence that everybody hears."""
    spoken = {
        SUSPECT: f"I suspect {_name(about)}.",
        CALL_WEREWOLF: f"I am the seer. {_name(about)} is werewolf.",
        CALL_GOOD: f"I am the seer. {_name(about)} is good.",
    }
    sentence = spoken.get(kind, "I pass.") if about is not None else "I pass."
    # Free words must not look like another player's line.
    return " ".join([sentence, *words.split()])


def ballots(votes: Sequence[tuple[int, int | None]]) -> str:
    """Who voted for whom, one line."""
    return f"Votes: {', '.join(f'{player_name(voter)} for {_name(target)}' for voter, target in votes)}."


def voted_out(seat: int | None, role: str) -> str:
    """What everybody hears after a vote: who goes, and with which role; None where nobody does."""
    return "Nobody is voted out." if seat is None else f"{player_name(seat)} is voted out, {role}."


def _name(seat: int | None) -> str:
    return NOBODY if seat is None else player_name(seat)
