"""The rules of werewolves, pure: who may do what to whom, what follows, who has won.

In: decisions. Out: what became of them. A `Game` is one table's state and changes only through its methods, each of
which accepts legal decisions only (`ValueError` otherwise); turning a player's words into a legal decision is the
caller's business. Left out: text, order of speech, players' minds.

Where tables differ, this one plays so: the werewolves kill whom most of them voted for, a tie saves everyone; the
witch has one save and one poison, at most one of them a night, and learns who was attacked only while she can save;
somebody attacked and poisoned in one night counts as attacked; the hunter shoots when he dies, but not when poisoned,
and not when the game is over; a day's vote may be for nobody, and a tie sends nobody away; roles are shown at death;
after the last day the werewolves have won, for they were not found.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

WEREWOLF, VILLAGER, SEER, WITCH, HUNTER = "werewolf", "villager", "seer", "witch", "hunter"
ROLES = (WEREWOLF, VILLAGER, SEER, WITCH, HUNTER)
Side = Literal["good", "werewolves"]
Cause = Literal["attacked", "poisoned", "shot", "voted out"]


def deal_roles(counts: Mapping[str, int], random_number: int) -> tuple[str, ...]:
    """Roles by seat, shuffled by the number alone, whatever runs beside.

    Raises:
        ValueError: a table that is over before it starts, or several seers, witches or hunters.
    """
    roles = [role for role in ROLES for _ in range(counts.get(role, 0))]
    num_wolves = counts.get(WEREWOLF, 0)
    if not 0 < num_wolves < len(roles) - num_wolves:
        raise ValueError(f"a table needs wolves, and fewer of them than others: {dict(counts)}")
    for role in (SEER, WITCH, HUNTER):
        if counts.get(role, 0) > 1:
            raise ValueError(f"a table has at most one {role}: {dict(counts)}")
    random.Random(random_number).shuffle(roles)
    return tuple(roles)


def side_of(roles: Collection[str]) -> Side:
    """The side that roles, all of one side, play for."""
    return "werewolves" if WEREWOLF in roles else "good"


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """Who died of what; the seat stays, its player says and decides nothing more."""

    seat: int
    cause: Cause


@dataclass(slots=True, kw_only=True)
class Game:
    """One table. Seats count from 0."""

    roles: tuple[str, ...]
    day_limit: int
    day: int = 1
    """The current night and the day after it."""
    alive: set[int] = field(default_factory=set)
    can_save: bool = True
    can_poison: bool = True

    def __post_init__(self) -> None:
        self.alive = set(range(len(self.roles)))

    def living(self, role: str | None = None) -> list[int]:
        """Living seats, of one role or all, ascending."""
        return [seat for seat in sorted(self.alive) if role is None or self.roles[seat] == role]

    def is_wolf(self, seat: int) -> bool:
        """Whether a seat belongs to a werewolf: what the seer is told of the player it checks."""
        return self.roles[seat] == WEREWOLF

    def winner(self) -> Side | None:
        """`good` when no wolf is left, `werewolves` when they are at least as many as the rest or time is up."""
        num_wolves = len(self.living(WEREWOLF))
        if num_wolves == 0:
            return "good"
        if 2 * num_wolves >= len(self.alive) or self.day > self.day_limit:
            return "werewolves"
        return None

    def night(self, *, attacked: int | None, saved: bool, poisoned: int | None) -> list[Death]:
        """Carry out a night's decisions; the deaths, attacked first.

        Raises:
            ValueError: a dead or missing victim, or a potion that is not there.
        """
        self._require_alive(attacked, poisoned)
        if saved and (attacked is None or not self.can_save):
            raise ValueError("there is nobody to save, or no potion left")
        if poisoned is not None and (saved or not self.can_poison):
            raise ValueError("the witch has no poison left, or has used her other potion tonight")
        self.can_save &= not saved
        self.can_poison &= poisoned is None
        deaths = []
        if attacked is not None and not saved:
            deaths.append(Death(seat=attacked, cause="attacked"))
        if poisoned is not None and poisoned != attacked:
            deaths.append(Death(seat=poisoned, cause="poisoned"))
        self.alive -= {death.seat for death in deaths}
        return deaths

    def may_shoot(self, death: Death) -> bool:
        """Whether this death lets a hunter shoot."""
        return self.roles[death.seat] == HUNTER and death.cause != "poisoned"

    def shoot(self, target: int) -> Death:
        """The hunter takes somebody along."""
        return self._kill(target, "shot")

    def vote_out(self, target: int) -> Death:
        """The day's vote sends somebody away."""
        return self._kill(target, "voted out")

    def next_day(self) -> None:
        """Go to the next night; `day` counts nights and the days after them from 1."""
        self.day += 1

    def _kill(self, seat: int, cause: Cause) -> Death:
        self._require_alive(seat)
        self.alive.remove(seat)
        return Death(seat=seat, cause=cause)

    def _require_alive(self, *seats: int | None) -> None:
        for seat in seats:
            if seat is not None and seat not in self.alive:
                raise ValueError(f"seat {seat} is not among the living: {sorted(self.alive)}")


def most_voted(votes: Iterable[int | None]) -> int | None:
    """Who has the most votes; None for a tie, for no votes, or where most voted for nobody (None)."""
    counted = Counter(votes).most_common(2)
    if not counted or (len(counted) == 2 and counted[0][1] == counted[1][1]):
        return None
    return counted[0][0]


def speaking_order(seats: Sequence[int], day: int, random_number: int) -> list[int]:
    """Who speaks when: around the table, from a seat that the day and the game's number pick."""
    start = random.Random(f"{random_number}/{day}").randrange(len(seats))
    return [*seats[start:], *seats[:start]]
