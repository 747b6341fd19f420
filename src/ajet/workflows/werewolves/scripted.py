"""The scripted players behind `opponent=scripted`, and the teachers of the small model.

In: an agent's request, nothing else. Out: a reply in the form that a small model is to learn: the notes that matter,
word for word, then one tool call. A share of the decisions (`ScriptedParams.sense`) is sensible (`judgement.py`), the
rest are random among the legal ones; what is repeated from the notes is right either way. A teacher is asked for all of
its possible replies at once (`choices`): their probabilities teach more than one of them drawn.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from ajet.chat.types import ChatReply, ChatRequest, ToolCall
from ajet.workflows.werewolves import judgement, prompts
from ajet.workflows.werewolves.params import ScriptedParams
from ajet.workflows.werewolves.prompts import NOBODY, Decision
from ajet.workflows.werewolves.reading import Memory, read

_RECITED: Mapping[Decision, Mapping[str, tuple[str, ...]]] = {
    "propose": {"werewolf": (prompts.CLAIMED_SEER,)},
    "attack": {"werewolf": (prompts.PROPOSED,)},
    "potions": {"witch": (prompts.ATTACKED, prompts.CALLED_WEREWOLF)},
    "check": {"seer": (prompts.SEEN_WEREWOLF,)},
    "say": {"seer": (prompts.SEEN_WEREWOLF,), "werewolf": (prompts.CLAIMED_SEER,)},
    "last_words": {"seer": (prompts.SEEN_WEREWOLF,), "werewolf": (prompts.CLAIMED_SEER,)},
    "vote": {"seer": (prompts.SEEN_WEREWOLF, prompts.CALLED_WEREWOLF), "werewolf": (prompts.CLAIMED_SEER,)},
}
_NUM_DRAWS = 4
"""Draws of a sensible decision in `choices`; most decisions are not a matter of luck."""
_RECITED_BY_OTHERS = (prompts.CALLED_WEREWOLF,)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedPlayer:
    """A player of any role that reads its requests as a model would, and decides sensibly or at random."""

    rng: random.Random
    params: ScriptedParams

    async def chat(self, request: ChatRequest) -> ChatReply:
        """A legal reply: a sensible one with the probability that `params` give for role and decision, else any."""
        memory = read(request.messages)
        if not request.tools or request.tool_choice == "none":
            return ChatReply(content=recited_notes(memory))
        options = legal_options(request.tools[0]["function"]["parameters"])
        if self.rng.random() < self.params.sense_of(memory.role, memory.decision):
            return _reply(request, memory, self._sensible(memory, options))
        return _reply(request, memory, {name: self.rng.choice(legal) for name, legal in options.items()})

    def choices(self, request: ChatRequest) -> list[tuple[ChatReply, float]]:
        """Every reply that `chat` might give, with its probability as a few draws of the sensible one tell."""
        memory = read(request.messages)
        if not request.tools or request.tool_choice == "none":
            return [(ChatReply(content=recited_notes(memory)), 1.0)]
        options = legal_options(request.tools[0]["function"]["parameters"])
        sense = self.params.sense_of(memory.role, memory.decision)
        every = [dict(zip(options, values, strict=True)) for values in product(*options.values())]
        drawn = [self._sensible(memory, options) for _ in range(_NUM_DRAWS)]
        odds = [(1 - sense) / len(every) + sense * drawn.count(fields) / _NUM_DRAWS for fields in every]
        return [(_reply(request, memory, fields), chance) for fields, chance in zip(every, odds, strict=True)]

    def _sensible(self, memory: Memory, options: Mapping[str, list[Any]]) -> dict[str, Any]:
        wanted = judgement.decide(memory, options, self.params, self.rng)
        return {name: wanted[name] if wanted[name] in legal else NOBODY for name, legal in options.items()}


def _reply(request: ChatRequest, memory: Memory, fields: Mapping[str, Any]) -> ChatReply:
    call = ToolCall(name=request.tools[0]["function"]["name"], arguments=json.dumps(fields))
    return ChatReply(content=recited_notes(memory), tool_calls=(call,))


def recited_notes(memory: Memory) -> str:
    """The notes that a reply opens with, word for word; a later one only where the first names nobody."""
    labels = _RECITED.get(memory.decision, {}).get(memory.role, _RECITED_BY_OTHERS)
    recited: list[str] = []
    for label in labels:
        if label in memory.notes:
            recited.append(memory.note_sentences[label])
            if memory.notes[label]:
                break
    return " ".join(recited)


def legal_options(schema: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The legal values of each field of a decision's schema; free text is left empty."""
    return {name: _values(part) for name, part in schema["properties"].items()}


def _values(part: Mapping[str, Any]) -> list[Any]:
    if "const" in part:
        return [part["const"]]
    if part.get("type") == "boolean":
        return [False, True]
    return list(part.get("enum", [""]))
