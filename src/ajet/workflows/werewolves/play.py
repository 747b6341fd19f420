"""The order of play: one moderator for every kind of player.

In: a `Game` and `Players` that can be asked and told. Out: a `GameReport`. AgentScope agents and bare chat models are
`Players` of their own (`agent_players.py`, `bare.py`) and are led by this same moderator, so no rule is written twice.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ajet.workflows.werewolves import prompts
from ajet.workflows.werewolves.decisions import NOTHING, Ask, Choice
from ajet.workflows.werewolves.game import SEER, WEREWOLF, WITCH, Death, Game, Side, most_voted, speaking_order
from ajet.workflows.werewolves.notes import Notebook
from ajet.workflows.werewolves.prompts import Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayerReply:
    """What came back for a request."""

    fields: Mapping[str, Any] | None
    """The structured reply; None if there was none."""
    num_calls: int = 1
    """Model calls that it took."""


class Players(Protocol):
    """The players as the moderator reaches them, by seat: with agents or without."""

    async def ask(self, seat: int, text: str, ask: Ask) -> PlayerReply:
        """Put a request to a player."""
        ...

    async def tell(self, seats: Sequence[int], speaker: str, text: str) -> None:
        """Let the players at some seats hear a line; nobody answers."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GameReport:
    """The outcome of a game: who won, when, what happened, and what is measured of it."""

    winner: Side
    num_days: int
    events: tuple[str, ...]
    """What happened, a line each, as the moderator saw it."""
    metrics: Mapping[str, float]
    """Counts and rates for `workflow/<name>`; a rate is absent where there was no occasion for it."""


@dataclass(slots=True, kw_only=True)
class Moderator:
    """Leads one game from the first night to its end."""

    game: Game
    players: Players
    random_number: int
    discussion_rounds: int
    public_votes: bool
    free_speech: bool
    on_vote: Callable[[int, int | None], None] = lambda seat, target: None
    """Told of each vote, who gave it and for whom, right after the reply."""
    events: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    rates: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    """One flag for each occasion."""
    notebook: Notebook = field(init=False)

    def __post_init__(self) -> None:
        self.notebook = Notebook(game=self.game)

    async def play(self) -> GameReport:
        """Alternate nights and days until a side has won or the days are over."""
        game = self.game
        while game.winner() is None:
            await self._night()
            if game.winner() is None:
                await self._day()
            game.next_day()
        winner = game.winner()
        assert winner is not None
        self.events.append(f"{winner} win")
        return GameReport(
            winner=winner, num_days=game.day - 1, events=tuple(self.events), metrics=self._metrics(winner)
        )

    def _metrics(self, winner: Side) -> dict[str, float]:
        metrics = {
            "good_wins": float(winner == "good"),
            "days": float(self.game.day - 1),
            "wolves_left": float(len(self.game.living(WEREWOLF))),
            "decisions": float(self.counts["decisions"]),
            "default_moves": float(self.counts["default_moves"]),
            "extra_calls": float(self.counts["extra_calls"]),
        }
        return metrics | {name: sum(flags) / len(flags) for name, flags in sorted(self.rates.items())}

    async def _ask(self, seat: int, decision: Decision, seats: Sequence[int], *, may_save: bool = False,
                   notes: Sequence[str] = ()) -> Choice:  # fmt: skip
        """One choice; doing nothing, counted, where the reply cannot be used."""
        free_speech = self.free_speech and decision in ("say", "last_words")
        ask = Ask(decision=decision, seats=tuple(seats), may_save=may_save, free_speech=free_speech)
        text = prompts.request(decision, self.game.day, self.notebook.for_request(seat, decision, notes))
        answer = await self.players.ask(seat, text, ask)
        choice = ask.read(answer.fields)
        self.counts["decisions"] += 1
        self.counts["extra_calls"] += answer.num_calls - 1
        self.counts["default_moves"] += choice is None
        self.rates[f"default_move_{self.game.roles[seat]}"].append(choice is None)
        if choice is None:
            self.events.append(f"{self._who(seat)} gave no usable reply to: {text}")
        return choice or NOTHING

    # Night

    async def _night(self) -> None:
        attacked = await self._wolves()
        saved, poisoned = await self._witch(attacked)
        await self._seer()
        deaths = self.game.night(attacked=attacked, saved=saved, poisoned=poisoned)
        await self._announce(prompts.morning(self.game.day, [(d.seat, self.game.roles[d.seat]) for d in deaths]))
        for death in deaths:
            await self._hunter(death)

    async def _wolves(self) -> int | None:
        game = self.game
        wolves, prey = game.living(WEREWOLF), [seat for seat in game.living() if not game.is_wolf(seat)]
        proposed: list[int] = []
        for wolf in wolves if len(wolves) > 1 else ():
            target = (await self._ask(wolf, "propose", prey)).target
            others = [other for other in wolves if other != wolf]
            await self.players.tell(others, prompts.player_name(wolf), prompts.proposal(target))
            proposed += [] if target is None else [target]
        notes = [prompts.note(prompts.PROPOSED, proposed)]
        votes = [(await self._ask(wolf, "attack", prey, notes=notes)).target for wolf in wolves]
        target = most_voted(votes)
        self.rates["wolves_agree"].append(target is not None)
        self.events.append(f"night {game.day}: werewolves attack {self._who(target)}")
        return target

    async def _witch(self, attacked: int | None) -> tuple[bool, int | None]:
        game = self.game
        may_save = game.can_save and attacked is not None
        if not game.living(WITCH) or not (may_save or game.can_poison):
            return False, None
        (witch,) = game.living(WITCH)
        targets = [seat for seat in game.living() if seat != witch] if game.can_poison else []
        notes = [prompts.potions_note(can_save=game.can_save, can_poison=game.can_poison)]
        if game.can_save:
            notes.append(prompts.note(prompts.ATTACKED, [] if attacked is None else [attacked]))
        choice = await self._ask(witch, "potions", targets, may_save=may_save, notes=notes)
        # Both potions in one night are not allowed: the save counts.
        poisoned = None if choice.save else choice.target
        if may_save:
            self.rates["witch_saves"].append(choice.save)
        if choice.save:
            self.events.append(f"night {game.day}: the witch saves {self._who(attacked)}")
        if poisoned is not None:
            self.events.append(f"night {game.day}: the witch poisons {self._who(poisoned)}")
            self.rates["witch_poisons_wolf"].append(game.is_wolf(poisoned))
        return choice.save, poisoned

    async def _seer(self) -> None:
        game, checked = self.game, self.notebook.checked
        for seer in game.living(SEER):
            unseen = [seat for seat in game.living() if seat != seer and seat not in checked]
            target = (await self._ask(seer, "check", unseen)).target if unseen else None
            if target is not None:
                checked[target] = game.is_wolf(target)
                answer = prompts.seer_answer(target, is_wolf=checked[target])
                await self.players.tell([seer], prompts.MODERATOR, answer)
                self.events.append(f"night {game.day}: the seer checks {self._who(target)}")

    async def _hunter(self, death: Death) -> None:
        if not self.game.may_shoot(death) or self.game.winner() is not None:
            return
        target = (await self._ask(death.seat, "shoot", self.game.living())).target
        if target is not None:
            self.rates["hunter_shoots_wolf"].append(self.game.is_wolf(target))
            self.game.shoot(target)
            await self._announce(prompts.shot(target, self.game.roles[target]))

    # Day

    async def _day(self) -> None:
        game = self.game
        for _ in range(self.discussion_rounds):
            for seat in speaking_order(game.living(), game.day, self.random_number):
                await self._statement(seat, "say")
        votes = [(seat, await self._vote(seat)) for seat in game.living()]
        if self.public_votes:
            await self._announce(prompts.ballots(votes))
        target = most_voted(vote for _, vote in votes)
        if target is None:
            await self._announce(prompts.voted_out(None, ""))
            return
        self.rates["vote_hits_wolf"].append(game.is_wolf(target))
        death = game.vote_out(target)
        await self._announce(prompts.voted_out(target, game.roles[target]))
        if game.winner() is None:
            await self._statement(target, "last_words")
            await self._hunter(death)

    async def _statement(self, seat: int, decision: Decision) -> None:
        choice = await self._ask(seat, decision, [other for other in self.game.living() if other != seat])
        known = self.notebook.known_wolves(seat)
        if known:
            says_so = choice.say == prompts.CALL_WEREWOLF and choice.target in known
            self.rates["seer_says_known_wolf"].append(says_so)
        self.notebook.take_statement(seat, choice.say, choice.target)
        sentence = prompts.statement(choice.say, choice.target, choice.words)
        self.events.append(f"day {self.game.day}: {self._who(seat)}: {sentence}")
        await self.players.tell(self.game.living(), prompts.player_name(seat), sentence)

    async def _vote(self, seat: int) -> int | None:
        target = (await self._ask(seat, "vote", [other for other in self.game.living() if other != seat])).target
        self.on_vote(seat, target)
        known = self.notebook.known_wolves(seat)
        if known:
            self.rates["seer_votes_known_wolf"].append(target in known)
        if target is not None:
            self.rates[f"{self.game.roles[seat]}_votes_wolf"].append(self.game.is_wolf(target))
        return target

    async def _announce(self, text: str) -> None:
        self.events.append(text)
        await self.players.tell(self.game.living(), prompts.MODERATOR, text)

    def _who(self, seat: int | None) -> str:
        return prompts.NOBODY if seat is None else f"{prompts.player_name(seat)} ({self.game.roles[seat]})"
