"""The decisions a player can be asked for: the structured reply's schema and its way back into seats.

In: the legal seats. Out: pydantic models that AgentScope turns into a forced tool call, and choices read from what
came back. A missing or illegal reply is None here; the moderator puts the legal default in its place and counts it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from ajet.workflows.werewolves.prompts import NOBODY, PASS, STATEMENTS, Decision, player_name

TOOL_NAME = "generate_response"
"""What AgentScope's ReActAgent calls the tool of a structured reply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a player decided. The default is every decision's legal way of doing nothing."""

    target: int | None = None
    """Seat; None for nobody (an abstention, where the player has to name somebody)."""
    save: bool = False
    say: str = PASS
    words: str = ""


NOTHING = Choice()
MUST_NAME = frozenset({"propose", "attack", "check"})
"""Decisions in which `nobody` is no choice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What one request leaves open.

    Example: a vote among seats 1 and 4 is answered by `{"target": "Player2"}` or `{"target": "Player5"}`.
    """

    decision: Decision
    seats: tuple[int, ...]
    """Whom the choice may be about."""
    may_save: bool = False
    """potions: somebody was attacked and can be saved."""
    free_speech: bool = False
    """say, last_words: the player may add words of its own."""

    def model(self) -> type[BaseModel]:
        """The schema of the structured reply."""
        names = [player_name(seat) for seat in self.seats]
        if names and self.decision not in MUST_NAME:
            names.append(NOBODY)
        speaks = self.decision in ("say", "last_words")
        return _model(tuple(names), speaks, self.may_save, self.free_speech)

    def tool(self) -> Mapping[str, Any]:
        """The same schema as an OpenAI tool."""
        return {"type": "function", "function": {"name": TOOL_NAME, "parameters": self.model().model_json_schema()}}

    def read(self, fields: Mapping[str, Any] | None) -> Choice | None:
        """The choice in a structured reply; None if there is none or it is illegal."""
        if not fields:
            return None
        try:
            legal = self.model().model_validate(fields).model_dump()
        except ValidationError:
            return None
        names = {player_name(seat): seat for seat in self.seats}
        return Choice(
            target=names.get(legal.get("target", NOBODY)),
            save=legal.get("save", False),
            say=legal.get("say", PASS),
            words=legal.get("words", ""),
        )


class _Reply(BaseModel):
    """Base of the schemas: each is made once and asked for its JSON schema thousands of times."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)
    json_schema: ClassVar[dict[str, Any]]

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """A copy of the schema, since AgentScope edits what it gets."""
        return copy.deepcopy(cls.json_schema)


@lru_cache(maxsize=16384)
def _model(names: tuple[str, ...], speaks: bool, may_save: bool, free_speech: bool) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    if speaks:
        fields["say"] = (_literal(STATEMENTS), ...)
    if may_save:
        fields["save"] = (bool, ...)
    if names:
        fields["target"] = (_literal(names), ...)
    if free_speech:
        fields["words"] = (str, "")
    model = create_model("Choice", __base__=_Reply, **fields)
    model.json_schema = super(_Reply, model).model_json_schema()
    return model


def _literal(choices: Sequence[str]) -> Any:
    return Literal[tuple(choices)]
