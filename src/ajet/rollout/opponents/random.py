"""`opponent=random`: any legal reply, drawn from the tools' JSON schemas.

Works for every workflow whose agents decide by tool calls. It reads nothing but the schema.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from ajet.chat.types import ChatReply, ChatRequest, NamedTool, ToolCall
from ajet.config.fields import named
from ajet.rollout.opponents.base import OpponentConfig, OpponentMaker

if TYPE_CHECKING:
    from ajet.workflow import Workflow

PHRASES = ("I have nothing to add.", "I am not sure.", "Let us go on.", "I will think about it.")
"""What it says where text is asked for."""
_INTEGER_SPAN = 10
"""Width of the range for an integer whose schema gives no bound."""


@dataclass
class RandomConfig(OpponentConfig):
    """Random legal replies."""

    name: str = named("random")

    @override
    def build(self, *, workflow: type[Workflow]) -> OpponentMaker:
        return lambda agent: RandomPlayer(agent.rng)


class RandomPlayer:
    """Answers with a random tool call where one may be made, else with a phrase."""

    def __init__(self, rng: random.Random) -> None:
        """`rng` is this agent's own in this episode."""
        self._rng = rng

    async def chat(self, request: ChatRequest) -> ChatReply:
        """Draw a reply."""
        text = self._rng.choice(PHRASES)
        tools = [tool["function"] for tool in request.tools]
        if isinstance(request.tool_choice, NamedTool):
            tools = [tool for tool in tools if tool["name"] == request.tool_choice.name]
        if not tools or request.tool_choice == "none":
            return ChatReply(content=text)
        tool = self._rng.choice(tools)
        schema = tool.get("parameters", {})
        arguments = random_value(schema, self._rng, schema.get("$defs", {}))
        return ChatReply(content=text, tool_calls=(ToolCall(name=tool["name"], arguments=json.dumps(arguments)),))


def random_value(schema: Mapping[str, Any], rng: random.Random, definitions: Mapping[str, Any]) -> Any:
    """A uniformly drawn value that fits a JSON schema (the part of it that tools use)."""
    if "$ref" in schema:
        return random_value(definitions[schema["$ref"].rsplit("/", 1)[-1]], rng, definitions)
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return random_value(rng.choice(schema[choice]), rng, definitions)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return rng.choice(schema["enum"])
    return _by_type(schema, rng, definitions)


def _by_type(schema: Mapping[str, Any], rng: random.Random, definitions: Mapping[str, Any]) -> Any:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: random_value(part, rng, definitions) for name, part in properties.items()}
    if kind == "array":
        length = rng.randint(schema.get("minItems", 0), schema.get("maxItems", 3))
        return [random_value(schema.get("items", {"type": "string"}), rng, definitions) for _ in range(length)]
    if kind == "boolean":
        return rng.random() < 0.5
    if kind == "integer":
        low = schema.get("minimum", 0)
        return rng.randint(low, schema.get("maximum", low + _INTEGER_SPAN))
    if kind == "number":
        low = schema.get("minimum", 0.0)
        return rng.uniform(low, schema.get("maximum", low + 1.0))
    if kind == "null":
        return None
    return rng.choice(PHRASES)
