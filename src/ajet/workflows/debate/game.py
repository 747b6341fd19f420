"""A debate's rules, pure: who holds which evidence, what counts of what was cited, what the sides and the judge read.

In: a number, then what each side said in each round. Out: prompts, and the evidence that counts. Pro and Con hold
evidence of the same few kinds, each with strengths of its own. A round's statements are made without knowing each
other; what either side cited in an earlier round counts for nothing. So citing at random against random citing wins
half of the debates, and good play is the strongest piece that nobody has cited yet. Left out: the quality of a speech,
which a judge who is a real model weighs as it likes.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Side = Literal["pro", "con"]
PRO: Side = "pro"
CON: Side = "con"
SIDES = (PRO, CON)
KINDS = ("survey", "study", "expert", "record", "letter", "photo")
"""Evidence by name."""
STRENGTHS = range(1, 10)
CLAIMS = (
    "Cars should stay out of city centres.",
    "Homework should be abolished.",
    "Museums should be free.",
    "Everybody should work four days a week.",
    "Children should learn to cook at school.",
    "Shops should be closed on Sundays.",
    "Old buildings should be kept.",
    "Every school needs a garden.",
)
_STANCES: Mapping[Side, str] = {PRO: "for", CON: "against"}


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One debate's state. A round is complete when `hear` has been told what both sides said."""

    claim: str
    hands: Mapping[Side, Mapping[str, int]]
    """Strength of each piece of evidence, by side."""
    num_rounds: int
    statements: list[Mapping[Side, str]] = field(default_factory=list)
    """What was said, by round."""

    def hear(self, said: Mapping[Side, str]) -> None:
        """Note a round's statements, each on one line."""
        self.statements.append({side: " ".join(text.split()) for side, text in said.items()})

    def cited(self, side: Side) -> list[str | None]:
        """What the side cited, by round; None where it named no piece of its own."""
        return [cited_evidence(said[side], self.hands[side]) for said in self.statements]

    def counted(self, side: Side) -> dict[str, int]:
        """The strength of the side's evidence that counts: what nobody had cited in an earlier round."""
        by_round = list(zip(*map(self.cited, SIDES), strict=True))
        return {
            kind: self.hands[side][kind]
            for number, kind in enumerate(self.cited(side))
            if kind is not None and not any(kind in earlier for earlier in by_round[:number])
        }

    def leaders(self) -> list[Side]:
        """The side whose evidence is stronger; both where it is as strong."""
        totals = {side: sum(self.counted(side).values()) for side in SIDES}
        return [side for side in SIDES if totals[side] == max(totals.values())]

    def rewards(self, winner: Side | None) -> dict[str, float]:
        """What each tag is paid. Without a winner the sides have drawn and the judge has not judged."""
        sides: dict[str, float] = {side: 0.5 if winner is None else float(winner == side) for side in SIDES}
        return sides | {"judge": float(winner in self.leaders())}

    def request(self, side: Side) -> str:
        """What the side reads at the start of the round that comes now."""
        other = CON if side == PRO else PRO
        number = f"Round {len(self.statements) + 1} of {self.num_rounds}."
        if not self.statements:
            return (
                f"Claim: {self.claim} You are {title(side)} and argue {_STANCES[side]} it. In each round, make a point "
                "in one sentence and cite one piece of your evidence, ending with: Evidence: <name>. "
                "What you or the other side cited in an earlier round counts for nothing.\n"
                f"Your evidence and its strength: {_listed(self.hands[side])}.\n{number}"
            )
        used = [kind for kinds in zip(self.cited(side), self.cited(other), strict=True) for kind in kinds if kind]
        said = f"{title(other)} said: {self.statements[-1][other]}"
        return f"{said}\nCited so far: {', '.join(dict.fromkeys(used)) or 'nothing'}.\n{number}"

    def transcript(self) -> str:
        """What the judge reads. Its last line but one is the clerk's, who has checked what was cited."""
        lines = [f"{title(side)}: {said[side]}" for said in self.statements for side in SIDES]
        checked = " ".join(f"{title(side)} {_listed(self.counted(side)) or 'nothing'}." for side in SIDES)
        return "\n".join(
            [
                f"You judge a debate. Claim: {self.claim}",
                *lines,
                f"Evidence that counts and its strength: {checked}",
                "Whose evidence is stronger in sum? End with: Winner: Pro. Or: Winner: Con.",
            ]
        )


def deal(random_number: int, *, hand_size: int, num_rounds: int) -> Exchange:
    """A claim and each side's evidence, from the number alone."""
    rng = random.Random(random_number)
    claim = rng.choice(CLAIMS)
    hands: dict[Side, dict[str, int]] = {
        side: dict(zip(rng.sample(KINDS, hand_size), rng.sample(STRENGTHS, hand_size), strict=True)) for side in SIDES
    }
    return Exchange(claim=claim, hands=hands, num_rounds=num_rounds)


def cited_evidence(statement: str, hand: Mapping[str, int]) -> str | None:
    """The piece that a statement names last; None where that is not a piece of the hand."""
    named = _last_named(KINDS, "evidence", statement)
    return named if named in hand else None


def named_side(verdict: str) -> Side | None:
    """The side that a verdict names last; None where it names none."""
    named = _last_named(SIDES, "winner", verdict)
    return next((side for side in SIDES if side == named), None)


def title(side: Side) -> str:
    """The side as it is spoken of."""
    return side.capitalize()


def _last_named(names: Sequence[str], label: str, text: str) -> str | None:
    # What stands around it is free: an argument, a model's thoughts, emphasis (`Winner: **Pro**`), a new line.
    named = rf"{label}(?:\s+is\b|\W*:)[\W_]*(?:the\b[\W_]*)?({'|'.join(names)})(?![^\W_])"
    found: list[str] = re.findall(named, text.lower())
    return found[-1] if found else None


def _listed(evidence: Mapping[str, int]) -> str:
    return ", ".join(f"{kind} {strength}" for kind, strength in evidence.items())
