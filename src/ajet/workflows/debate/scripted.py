"""The scripted debaters and judge: what `opponent=scripted` plays, and the teachers of the small model.

In: an agent's request, nothing else. Out: the least that a reply must hold. A debater cites the strongest of its
evidence that nobody has cited yet, or any of its evidence; the judge adds up what the clerk has checked.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ajet.chat.types import ChatReply, ChatRequest
from ajet.workflows.debate.game import SIDES, title
from ajet.workflows.sensible import SensiblePlayer

DEFAULT_SENSE = 0.35
"""A debater's, where `opponent.params.sense` is not given: a fair match for the small model before training."""


def scripted_speaker(target_tag: str, rng: random.Random, params: Mapping[str, float]) -> SensiblePlayer:
    """A debater by `opponent.params`: `sense`. The judge is always fair.

    Raises:
        ConfigError: an unknown name, or a number that is not a probability.
    """
    debater = ScriptedDebater.of(rng, {"sense": DEFAULT_SENSE, **params})
    return ScriptedJudge(rng=rng, sense=1.0) if target_tag == "judge" else debater


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedDebater(SensiblePlayer):
    """Speaks for a side: its strongest evidence that it has not cited yet, or any that it holds."""

    def replies(self, request: ChatRequest) -> tuple[Sequence[ChatReply], Sequence[ChatReply]]:
        """The strongest unused evidence is sensible, all that the side holds is legal."""
        hand = _strengths(_last("Your evidence and its strength: (.*)\\.", request.messages[0]["content"]))
        # The last line of that kind is the workflow's own; what the other side said stands before it.
        used = re.findall(r"\w+", _last("Cited so far: (.*)\\.", request.messages[-1]["content"]))
        best = max(hand, key=lambda kind: (kind not in used, hand[kind]))
        return [_evidence(best)], [_evidence(kind) for kind in hand]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedJudge(SensiblePlayer):
    """Names the side whose evidence is stronger in sum; either, where both are as strong."""

    def replies(self, request: ChatRequest) -> tuple[Sequence[ChatReply], Sequence[ChatReply]]:
        """A verdict for the stronger side is sensible (both where they are as strong), either is legal."""
        checked = _last("Evidence that counts and its strength: Pro (.*)\\.", request.messages[-1]["content"])
        totals = [sum(_strengths(listed).values()) for listed in checked.split(". Con ")]
        verdicts = [ChatReply(content=f"Winner: {title(side)}.") for side in SIDES]
        fair = [verdict for verdict, total in zip(verdicts, totals, strict=True) if total == max(totals)]
        return fair, verdicts


def _evidence(kind: str) -> ChatReply:
    return ChatReply(content=f"Evidence: {kind}.")


def _last(pattern: str, text: str) -> str:
    """What the last match captures; nothing where there is none."""
    return str((re.findall(pattern, text) or [""])[-1])


def _strengths(listed: str) -> dict[str, int]:
    return {kind: int(strength) for kind, strength in re.findall(r"(\w+) (\d+)", listed)}
