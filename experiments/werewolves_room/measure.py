"""How much room there is to learn: win rates by how sensibly the trained roles decide, all others scripted.

    python experiments/werewolves_room/measure.py [--games 1000] [--processes 2] [--params follow=0.8 ...]

Plays bare chat models (no AgentScope; the tests show that the games are the same). Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import random
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from scipy.stats import binomtest

from ajet.data.randomness import derive_rng
from ajet.workflows.werewolves import prompts
from ajet.workflows.werewolves.bare import BarePlayers
from ajet.workflows.werewolves.game import Game, deal_roles
from ajet.workflows.werewolves.params import scripted_params
from ajet.workflows.werewolves.play import Moderator
from ajet.workflows.werewolves.scripted import ScriptedPlayer

NINE = {"werewolf": 3, "villager": 3, "seer": 1, "witch": 1, "hunter": 1}
SEVEN = {"werewolf": 2, "villager": 2, "seer": 1, "witch": 1, "hunter": 1}
SIX = {"werewolf": 2, "villager": 2, "seer": 1, "witch": 1}
FIVE = {"werewolf": 1, "villager": 2, "seer": 1, "witch": 1}
DAY_LIMIT = 8
NOTES_ONLY = {"insight": 0.0}
"""A trained role that uses its notes and nothing that it would have to work out from the votes."""
TEAM = {"wolf_agreement": 1.0, "wolf_hunt": 1.0}
"""What sensible werewolves do beyond the scripted opponents: strike together, and at the seer first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row of a table: who plays how."""

    name: str
    params: Mapping[str, Mapping[str, float]]
    """Parameters by role, over those of everybody."""
    counts: Mapping[str, int] = field(default_factory=lambda: NINE)
    opponents: Mapping[str, float] = field(default_factory=dict)
    num_games: int = 1000


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What a case's games add up to."""

    good_wins: int = 0
    totals: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    occasions: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, name: str, value: float) -> None:
        self.totals[name] += value
        self.occasions[name] += 1

    def mean(self, name: str) -> float:
        return self.totals[name] / max(1, self.occasions[name])


def play(case: Case) -> Outcome:
    """All games of a case; game i has the same seats in every case."""
    outcome = Outcome()
    for number in range(case.num_games):
        asyncio.run(_play_one(case, number, outcome))
    return outcome


async def _play_one(case: Case, number: int, outcome: Outcome) -> None:
    roles = deal_roles(case.counts, number)
    players = [_player(case, role, derive_rng("room", number, seat)) for seat, role in enumerate(roles)]
    table = BarePlayers(players, [prompts.system_prompt(seat, roles) for seat in range(len(roles))])
    driver = Moderator(
        game=Game(roles=roles, day_limit=DAY_LIMIT),
        table=table,
        random_number=number,
        discussion_rounds=1,
        public_votes=True,
        free_speech=False,
    )
    report = await driver.play()
    outcome.good_wins += report.winner == "good"
    for name, value in report.metrics.items():
        outcome.add(name, value)
    outcome.add("calls", sum(player.num_calls for player in table.players))
    for role, player in zip(roles, table.players, strict=True):
        outcome.add(f"calls of a {role}", player.num_calls)
        outcome.add(f"characters of a {role}", sum(len(str(turn["content"])) for turn in player.messages))


def _player(case: Case, role: str, rng: random.Random) -> ScriptedPlayer:
    return ScriptedPlayer(rng=rng, params=scripted_params({**case.opponents, **case.params.get(role, {})}))


def both(sense: float, **more: float) -> dict[str, dict[str, float]]:
    """The seer and the witch alike."""
    return {role: {"sense": sense, **NOTES_ONLY, **more} for role in ("seer", "witch")}


def good_cases(games: int, opponents: Mapping[str, float]) -> list[Case]:
    """The seer and the witch, from random to sensible, and without one decision at a time."""
    levels = {
        "random": 0.0,
        "30% sensible": 0.3,
        "50% sensible": 0.5,
        "70% sensible": 0.7,
        "sensible, by its notes": 1.0,
    }
    rows = {name: both(sense) for name, sense in levels.items()}
    rows["sensible, reads votes too"] = both(1.0, insight=1.0)
    rows["seer random, witch sensible"] = both(1.0) | {"seer": {"sense": 0.0}}
    rows["witch random, seer sensible"] = both(1.0) | {"witch": {"sense": 0.0}}
    for role, decision in (
        ("seer", "say"),
        ("seer", "vote"),
        ("seer", "last_words"),
        ("witch", "potions"),
        ("witch", "say"),
        ("witch", "vote"),
    ):
        rows[f"sensible but for the {role}'s {decision}"] = both(1.0) | {
            role: {"sense": 1.0, **NOTES_ONLY, f"sense_{role}_{decision}": 0.0}
        }
    return [Case(name=name, params=params, opponents=opponents, num_games=games) for name, params in rows.items()]


def wolf_cases(games: int, opponents: Mapping[str, float]) -> list[Case]:
    """The werewolves, from random to sensible, and without one decision at a time."""
    levels = {"random": 0.0, "30% sensible": 0.3, "50% sensible": 0.5, "70% sensible": 0.7, "sensible": 1.0}
    rows = {name: {"werewolf": {"sense": sense, **TEAM}} for name, sense in levels.items()}
    rows["as scripted opponents"] = {}
    for decision in ("propose", "attack", "say", "vote"):
        rows[f"sensible but for {decision}"] = {"werewolf": {"sense": 1.0, **TEAM, f"sense_werewolf_{decision}": 0.0}}
    return [Case(name=name, params=params, opponents=opponents, num_games=games) for name, params in rows.items()]


def small_cases(games: int, opponents: Mapping[str, float]) -> list[Case]:
    """Tables of six and five."""
    levels = {"random": 0.0, "30% sensible": 0.3, "sensible, by its notes": 1.0}
    return [
        Case(name=f"{size}: {name}", params=both(sense), counts=counts, opponents=opponents, num_games=games)
        for size, counts in (("six", SIX), ("five", FIVE))
        for name, sense in levels.items()
    ]


def role_cases(games: int, opponents: Mapping[str, float]) -> list[Case]:
    """Which roles are worth being sensible at a table of seven, each alone and together, from the teachers' sense."""
    good = ("seer", "witch", "hunter", "villager")
    sets = [*((role,) for role in good), ("seer", "witch"), good]
    return [
        Case(
            name=f"{', '.join(roles)}: {'sensible' if sense == 1 else f'{sense:.0%} sensible'}",
            params={role: {"sense": sense, **NOTES_ONLY} for role in roles},
            counts=SEVEN,
            opponents=opponents,
            num_games=games,
        )
        for roles in sets
        for sense in (0.35, 1.0)
    ]


def show(title: str, cases: Sequence[Case], outcomes: Iterable[Outcome], *, wolves: bool = False) -> None:
    """One Markdown table; 95% Wilson intervals."""
    print(f"\n### {title}\n\n| players | wins | 95% interval | days | calls |\n|---|---|---|---|---|")
    for case, outcome in zip(cases, outcomes, strict=True):
        wins = case.num_games - outcome.good_wins if wolves else outcome.good_wins
        interval = binomtest(wins, case.num_games).proportion_ci(method="wilson")
        print(
            f"| {case.name} | {wins / case.num_games:.3f} | {interval.low:.3f} to {interval.high:.3f} "
            f"| {outcome.mean('days'):.1f} | {outcome.mean('calls'):.0f} |",
            flush=True,
        )


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--games", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--params", nargs="*", default=[], help="of everybody, e.g. follow=0.8")
    arguments = parser.parse_args()
    opponents = {name: float(value) for name, value in (item.split("=") for item in arguments.params)}
    groups = {
        "Good side's win rate: seer and witch": good_cases(arguments.games, opponents),
        "Werewolves' win rate: werewolves": wolf_cases(arguments.games, opponents),
        "Good side's win rate at small tables: seer and witch": small_cases(arguments.games, opponents),
        "Good side's win rate at a table of seven: one role after another": role_cases(arguments.games, opponents),
    }
    started = time.perf_counter()
    num_games = 0
    with multiprocessing.Pool(arguments.processes) as pool:
        for title, cases in groups.items():
            outcomes = list(pool.imap(play, cases))
            show(title, cases, outcomes, wolves=title.startswith("Were"))
            num_games += sum(case.num_games for case in cases)
            if cases[0].counts == NINE and not title.startswith("Were"):
                _show_costs(outcomes[2])
    seconds = time.perf_counter() - started
    print(f"\n{num_games} games in {seconds:.0f} s: {60 * num_games / seconds:.0f} a minute.")


def _show_costs(outcome: Outcome) -> None:
    print("\n### Calls and characters a game (seer and witch 50% sensible)\n")
    print("| role | calls | characters |\n|---|---|---|")
    for role in NINE:
        calls, characters = outcome.mean(f"calls of a {role}"), outcome.mean(f"characters of a {role}")
        print(f"| {role} | {calls:.1f} | {characters:.0f} |")
    print("\n| rate | mean over games with an occasion |\n|---|---|")
    for name in sorted(outcome.totals):
        if outcome.mean(name) <= 1 and not name.startswith(("default", "good", "extra")):
            print(f"| {name} | {outcome.mean(name):.2f} |")


if __name__ == "__main__":
    main()
