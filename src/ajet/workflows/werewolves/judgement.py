"""What a sensible player does with what it knows: a `Memory` and the legal choices -> a decision.

Good players trust a claim to be the seer until something exposes the claimant, and keep to themselves otherwise;
werewolves hide, deflect, and sometimes fail to agree. How often they do what is a parameter (`params.py`).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ajet.workflows.werewolves import prompts
from ajet.workflows.werewolves.params import ScriptedParams
from ajet.workflows.werewolves.prompts import NOBODY
from ajet.workflows.werewolves.reading import Memory

Options = Mapping[str, Sequence[Any]]
"""Legal values by field."""


def decide(memory: Memory, options: Options, params: ScriptedParams, rng: random.Random) -> dict[str, Any]:
    """A value for every field; `nobody` or the first legal one where there is nothing to choose."""
    targets = [name for name in options.get("target", ()) if name not in (NOBODY, memory.name)]
    judge = _Wolf if memory.role == "werewolf" else _Good
    decided = judge(memory, targets, params, rng).decide()
    return {"save": False, "say": prompts.PASS, "words": "", "target": NOBODY} | decided


class _Good:
    """A villager, and what the special roles add to one."""

    def __init__(self, memory: Memory, targets: list[str], params: ScriptedParams, rng: random.Random) -> None:
        self.memory, self.targets, self.params, self.rng = memory, targets, params, rng
        self.wolves = [name for name, is_wolf in memory.seen.items() if is_wolf and name in targets]
        self.liars = [name for name in memory.exposed() if name in targets]
        self.trusted = {c.about for c in memory.credible_claims() if not c.is_wolf}
        self.trusted |= {claim.speaker for claim in memory.credible_claims()}
        self.trusted |= {name for name, is_wolf in memory.seen.items() if not is_wolf}

    def decide(self) -> dict[str, Any]:
        """By the kind of decision."""
        match self.memory.decision:
            case "say" | "last_words":
                return self.statement()
            case "vote":
                return {"target": self.vote()}
            case "potions":
                return self.potions()
            case "shoot":
                return {"target": self.suspect() or NOBODY}
            case _:
                return {"target": self.check()}

    def accused(self) -> str | None:
        """Whom a credible claim calls a werewolf; of two claimants the first, more often than not."""
        claims = [c for c in self.memory.credible_claims() if c.is_wolf and c.about in self.targets]
        speakers = list(dict.fromkeys(claim.speaker for claim in claims))
        if not speakers:
            return None
        believed = speakers[0]
        if len(speakers) > 1 and self.rng.random() >= self.params.first_claim_trust:
            believed = self.rng.choice(speakers[1:])
        return next(claim.about for claim in claims if claim.speaker == believed)

    def suspect(self) -> str | None:
        """Whom I have reason to think a werewolf: seen, credibly accused, or caught lying."""
        if self.wolves:
            return self.wolves[0]
        return self.accused() or (self.liars[0] if self.liars else None) or self.doubtful()

    def doubtful(self) -> str | None:
        """Whose votes look most like a werewolf's, for those who notice; the first seat of several."""
        doubts = self.memory.doubts()
        voters = [name for name in self.targets if name not in self.trusted and doubts[name] > 0]
        if not voters or self.rng.random() >= self.params.insight:
            return None
        return max(voters, key=lambda name: doubts[name])

    def statement(self) -> dict[str, Any]:
        """The seer tells a werewolf it saw, and once it has spoken up whom it saw good; others name their suspect."""
        if self.wolves:
            return {"say": prompts.CALL_WEREWOLF, "target": self.wolves[0]}
        if good := [name for name in self.memory.notes.get(prompts.SEEN_GOOD, ()) if name in self.targets]:
            told = {claim.about for claim in self.memory.claims if claim.speaker == self.memory.name}
            untold = [name for name in good if name not in told]
            if told and untold:
                return {"say": prompts.CALL_GOOD, "target": untold[0]}
        suspect = self.suspect()
        return {"say": prompts.SUSPECT, "target": suspect} if suspect else {"say": prompts.PASS}

    def vote(self) -> str:
        """The suspect, most of the time; without one, now and then anybody not vouched for."""
        if self.wolves:
            return self.wolves[0]
        suspect = self.suspect()
        if suspect and self.rng.random() < self.params.follow:
            return suspect
        return self._anybody() if self.rng.random() < self.params.hunch else NOBODY

    def potions(self) -> dict[str, Any]:
        """Save whoever was attacked; else poison a suspect, and nobody without a reason."""
        saves = bool(self.memory.notes.get(prompts.ATTACKED))
        return {"save": saves, "target": NOBODY if saves else self.suspect() or NOBODY}

    def check(self) -> str:
        """Somebody nobody has vouched for."""
        return self._anybody()

    def _anybody(self) -> str:
        return self.rng.choice([name for name in self.targets if name not in self.trusted] or self.targets)


class _Wolf:
    """How a werewolf decides: it spares its partners, hunts who claims to be the seer, and casts suspicion."""

    def __init__(self, memory: Memory, targets: list[str], params: ScriptedParams, rng: random.Random) -> None:
        self.memory, self.params, self.rng = memory, params, rng
        self.prey = [name for name in targets if name not in memory.partners] or targets
        self.claimants = [name for name in memory.notes.get(prompts.CLAIMED_SEER, ()) if name in self.prey]

    def decide(self) -> dict[str, Any]:
        """By the kind of decision."""
        match self.memory.decision:
            case "propose":
                return {"target": self.pick()}
            case "attack":
                proposed = self.memory.notes.get(prompts.PROPOSED, ())
                agrees = proposed and self.rng.random() < self.params.wolf_agreement
                return {"target": proposed[0] if agrees else self.pick()}
            case "vote":
                return {"target": self.vote()}
            case _:
                return self.statement()

    def pick(self) -> str:
        """Who claimed to be the seer, or anybody."""
        if self.claimants and self.rng.random() < self.params.wolf_hunt:
            return self.claimants[0]
        return self.rng.choice(self.prey)

    def statement(self) -> dict[str, Any]:
        """Answer a claim with another, suspect somebody, or pass."""
        me = self.memory.name
        already = any(claim.speaker == me or claim.speaker in self.memory.partners for claim in self.memory.claims)
        if self.claimants and not already and self.rng.random() < self.params.wolf_counterclaim:
            return {"say": prompts.CALL_WEREWOLF, "target": self.claimants[0]}
        if self.rng.random() < self.params.wolf_deflection:
            return {"say": prompts.SUSPECT, "target": self.vote()}
        return {"say": prompts.PASS}

    def vote(self) -> str:
        """Who claimed to be the seer, whom others suspect, or anybody but a partner."""
        if self.rng.random() < self.params.wolf_deflection:
            if self.claimants:
                return self.claimants[0]
            voiced = Counter(s.about for s in self.memory.suspicions if s.about in self.prey)
            if voiced:
                return voiced.most_common(1)[0][0]
        return self.rng.choice(self.prey)
