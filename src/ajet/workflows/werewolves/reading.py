"""What a scripted player makes of what it was told: its messages -> a `Memory`.

Reads only the lines of that player's own requests, as `prompts.py` writes them. Stateless: every request is read anew,
so a player cannot know more than its messages say; only the splitting of a message into facts is cached.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from ajet.workflows.werewolves.prompts import MODERATOR, NOBODY, REQUESTS, Decision

_LINE = re.compile(r"^(Moderator|Player\d+): (.*)$", re.MULTILINE)
_SYSTEM = re.compile(r"You are (Player\d+), the (\w+)\.(?: Partners: ([^.]*)\.)?")
_GONE = re.compile(r"(?:shot )?(Player\d+)(?: died| is voted out)?, (\w+)\.")
_SEEN = re.compile(r"^(Player\d+) is (werewolf|good)\.$")
_CLAIM = re.compile(r"^I am the seer\. (Player\d+) is (werewolf|good)\.")
_SUSPECT = re.compile(r"^I suspect (Player\d+)\.")
_BALLOT = re.compile(r"(Player\d+) for (\w+)")
_NOTE = re.compile(r"([A-Z]\w+(?: \w+)?): ([^.]*)\.")
_DECISIONS = {sentence: decision for decision, sentence in REQUESTS.items()}
_REQUEST = re.compile(rf"^(?:Night|Day) \d+\. ({'|'.join(map(re.escape, _DECISIONS))})(.*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Somebody said to be the seer and to have seen this."""

    speaker: str
    about: str
    is_wolf: bool


@dataclass(frozen=True, slots=True)
class Revealed:
    """The role of a dead player, which everybody is told."""

    name: str
    role: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What the moderator told this player as the seer."""

    name: str
    is_wolf: bool


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A statement of suspicion, which claims no knowledge."""

    speaker: str
    about: str


@dataclass(frozen=True, slots=True)
class Ballots:
    """Who voted for whom, on one day."""

    votes: tuple[tuple[str, str], ...]
    """(voter, target or `nobody`)."""


Fact = Claim | Revealed | Seen | Suspicion | Ballots


@dataclass(slots=True, kw_only=True)
class Memory:
    """What one player knows and has heard."""

    name: str
    role: str
    partners: frozenset[str]
    decision: Decision
    """What it is asked for."""
    notes: Mapping[str, tuple[str, ...]]
    """Names by label, from the request; empty for nobody."""
    note_sentences: Mapping[str, str]
    """The same notes, as they stand there."""
    seen: dict[str, bool] = field(default_factory=dict)
    """As the seer: whether a player is a wolf."""
    revealed: dict[str, str] = field(default_factory=dict)
    """Roles of the dead."""
    claims: list[Claim] = field(default_factory=list)
    suspicions: list[Suspicion] = field(default_factory=list)
    """Oldest first."""
    ballots: list[Ballots] = field(default_factory=list)
    """Oldest first."""

    def take(self, fact: Fact) -> None:
        """Add a fact to what this player knows."""
        match fact:
            case Claim():
                self.claims.append(fact)
            case Suspicion():
                self.suspicions.append(fact)
            case Revealed(name, role):
                self.revealed[name] = role
            case Seen(name, is_wolf):
                self.seen[name] = is_wolf
            case Ballots():
                self.ballots.append(fact)

    def exposed(self) -> list[str]:
        """Claimants whom something that I know proves wrong: liars, each once, who claimed first first."""
        return list(dict.fromkeys(claim.speaker for claim in self.claims if self._is_wrong(claim)))

    def _is_wrong(self, claim: Claim) -> bool:
        if claim.speaker == self.name:
            return False
        if self.role == "seer" or self.revealed.get(claim.speaker, "seer") != "seer" or self.seen.get(claim.speaker):
            return True
        if any(role == "seer" and name != claim.speaker for name, role in self.revealed.items()):
            return True
        if claim.about == self.name:
            return claim.is_wolf
        known = self.seen.get(claim.about)
        if claim.about in self.revealed:
            known = self.revealed[claim.about] == "werewolf"
        return known is not None and known != claim.is_wolf

    def credible_claims(self) -> list[Claim]:
        """Claims of those who are not exposed, oldest first."""
        exposed = self.exposed()
        return [claim for claim in self.claims if claim.speaker not in exposed]

    def proven_seer(self) -> str | None:
        """Who died as the seer, or called a werewolf who turned out to be one."""
        for name, role in self.revealed.items():
            if role == "seer":
                return name
        right = [c.speaker for c in self.credible_claims() if c.is_wolf and self.revealed.get(c.about) == "werewolf"]
        return right[0] if right else None

    def doubts(self) -> Counter[str]:
        """How often each player's vote spared a werewolf who had many votes or went against the proven seer.

        Of two werewolves with as many votes, it counts who was named first.
        """
        seer = self.proven_seer()
        doubts: Counter[str] = Counter()
        for ballots in self.ballots:
            wolves = [name for _, name in ballots.votes if self.revealed.get(name) == "werewolf"]
            called = max(wolves, key=[name for _, name in ballots.votes].count, default=None)
            for voter, target in ballots.votes:
                doubts[voter] += (called is not None and target != called) + (target == seer)
        return doubts


def read(messages: Sequence[Mapping[str, Any]]) -> Memory:
    """A player's memory from its request."""
    match = _SYSTEM.search(str(messages[0]["content"]))
    assert match is not None, "the first message says who the player is"
    told = [str(message["content"]) for message in messages[1:] if message["role"] == "user"]
    decision, sentences = _request(told)
    memory = Memory(
        name=match[1],
        role=match[2],
        partners=frozenset((match[3] or "").split()) - {NOBODY},
        decision=decision,
        notes={label: _names(sentence) for label, sentence in sentences.items()},
        note_sentences=sentences,
    )
    for content in told:
        for fact in facts(content):
            memory.take(fact)
    return memory


def _request(told: Sequence[str]) -> tuple[Decision, dict[str, str]]:
    """The decision asked for, and its notes by label. A hint of the agent framework may stand behind it."""
    for content in reversed(told):
        for speaker, text in reversed(_LINE.findall(content)):
            found = _REQUEST.match(text) if speaker == MODERATOR else None
            if found is not None:
                return _DECISIONS[found[1]], {note[1]: note[0] for note in _NOTE.finditer(found[2])}
    raise AssertionError("somebody was asked for nothing")


def _names(sentence: str) -> tuple[str, ...]:
    names = sentence.removesuffix(".").split(": ")[1]
    return () if names == NOBODY else tuple(names.split())


@lru_cache(maxsize=65536)
def facts(content: str) -> tuple[Fact, ...]:
    """What one message tells, in order."""
    return tuple(fact for speaker, text in _LINE.findall(content) for fact in _facts(speaker, text))


def _facts(speaker: str, text: str) -> Iterator[Fact]:
    if speaker == MODERATOR:
        yield from _announced(text)
    elif claim := _CLAIM.match(text):
        yield Claim(speaker=speaker, about=claim[1], is_wolf=claim[2] == "werewolf")
    elif suspicion := _SUSPECT.match(text):
        yield Suspicion(speaker, suspicion[1])


def _announced(text: str) -> Iterator[Fact]:
    if _REQUEST.match(text):
        return
    if text.startswith("Votes"):
        yield Ballots(tuple(_BALLOT.findall(text)))
    elif seen := _SEEN.match(text):
        yield Seen(seen[1], seen[2] == "werewolf")
    else:
        for gone in _GONE.finditer(text):
            yield Revealed(gone[1], gone[2])
