"""What a player may be reminded of: its own findings and what everybody heard.

In: checks and statements as they happen. Out: the note sentences of a request. Nothing here is a judgement: who was
called a werewolf is listed, whoever said it, newest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ajet.workflows.werewolves import prompts
from ajet.workflows.werewolves.game import SEER, WEREWOLF, WITCH, Game
from ajet.workflows.werewolves.prompts import Decision, note


@dataclass(slots=True, kw_only=True)
class Notebook:
    """The moderator's record of one game."""

    game: Game
    checked: dict[int, bool] = field(default_factory=dict)
    """What the seer has seen: whether a seat is a werewolf."""
    claims: list[tuple[int, str, int]] = field(default_factory=list)
    """(speaker, `werewolf` or `good`, seat) of every claim to be the seer, oldest first."""

    def known_wolves(self, seat: int) -> set[int]:
        """Living werewolves that this player has seen as the seer."""
        return set(self._seen(werewolf=True)) if self.game.roles[seat] == SEER else set()

    def take_statement(self, speaker: int, kind: str, about: int | None) -> None:
        """Remember a claim to be the seer; other statements are not noted."""
        if kind in (prompts.CALL_WEREWOLF, prompts.CALL_GOOD) and about is not None:
            self.claims.append((speaker, kind, about))

    def for_request(self, seat: int, decision: Decision, extra: Sequence[str] = ()) -> list[str]:
        """The notes that this player gets with this request; `extra` are those of the moment."""
        role = self.game.roles[seat]
        if role == WEREWOLF:
            claimants = [speaker for speaker, _, _ in self.claims if not self.game.is_wolf(speaker)]
            notes = [*extra, note(prompts.CLAIMED_SEER, self._living(claimants))]
            if decision in ("say", "last_words", "vote"):
                partners = [wolf for wolf in self.game.living(WEREWOLF) if wolf != seat]
                notes.append(note(prompts.PARTNERS, partners))
            return notes
        called = note(prompts.CALLED_WEREWOLF, self._called_werewolf())
        if role == WITCH:
            return [*extra, called]
        if role == SEER:
            seen = note(prompts.SEEN_WEREWOLF, self._seen(werewolf=True))
            return [seen, called] if decision == "vote" else [seen, note(prompts.SEEN_GOOD, self._seen(werewolf=False))]
        return [called]

    def _called_werewolf(self) -> list[int]:
        return self._living([about for _, kind, about in self.claims if kind == prompts.CALL_WEREWOLF])

    def _seen(self, *, werewolf: bool) -> list[int]:
        return [seat for seat, is_wolf in self.checked.items() if is_wolf == werewolf and seat in self.game.alive]

    def _living(self, seats: Sequence[int]) -> list[int]:
        """The living among them, once each, newest first."""
        return [seat for seat in dict.fromkeys(reversed(seats)) if seat in self.game.alive]
