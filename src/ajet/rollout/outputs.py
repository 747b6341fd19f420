"""What a user's `execute` returned -> what an episode keeps: checked whole, and plain data from there on.

In: a `WorkflowOutput`, whose fields may have been assigned anything since it was made. Out: another one that shares no
object with it, holds nothing but JSON's types, and can be logged, stored and read again whatever the user does next.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping, Sequence, Set
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel, ValidationError

from ajet.errors import WorkflowError
from ajet.workflow import WorkflowOutput

MOST_LEVELS = 100
"""Of lists and mappings within each other; readers of JSON give up not far above."""
MOST_ITEMS = 1_000_000
MOST_CHARACTERS = 16 * 2**20
MOST_BITS = 4096
"""Of a whole number: Python refuses to write or read those of more than 4300 digits."""


@runtime_checkable
class _ListLike(Protocol):
    """numpy's arrays and scalars, torch's tensors, pandas' series."""

    def tolist(self) -> Any: ...


def kept_output(output: Any) -> WorkflowOutput:
    """The output as it is kept.

    Raises:
        WorkflowError: it is none, or holds what cannot be kept; the message says where.
    """
    if not isinstance(output, WorkflowOutput):
        raise WorkflowError(f"execute returned {type(output).__name__}, not a WorkflowOutput")
    if not isinstance(output.metadata, Mapping):
        raise WorkflowError(f"metadata is a mapping, not {type(output.metadata).__name__}")
    metadata = _PlainData().of(output.metadata, "metadata", ())
    try:
        return WorkflowOutput(
            reward=output.reward, is_success=output.is_success, metadata=metadata, log_metrics=output.log_metrics
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise WorkflowError(f"The output's {place} is {first['input']!r:.200}: {first['msg']}") from None


class _PlainData:
    """Turns one value into plain data, counting as it goes."""

    def __init__(self) -> None:
        self._num_items = 0
        self._num_characters = 0

    def of(self, value: Any, place: str, inside: tuple[Any, ...]) -> Any:
        """`value` in JSON's types; `place` names it, `inside` is what it lies in, from the outermost on."""
        self._num_items += 1
        if self._num_items > MOST_ITEMS:
            raise WorkflowError(f"metadata holds more than {MOST_ITEMS} values")
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, enum.Enum):
            return self.of(value.value, place, inside)
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, int):
            if value.bit_length() > MOST_BITS:
                raise WorkflowError(f"{place} is a whole number of more than {MOST_BITS} bits")
            return int(value)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else str(float(value))  # JSON has no NaN
        if any(value is outer for outer in inside):
            raise WorkflowError(f"{place} contains itself")
        if len(inside) == MOST_LEVELS:
            raise WorkflowError(f"{place:.100} lies more than {MOST_LEVELS} levels deep")
        return self._nested(value, place, (*inside, value))

    def _nested(self, value: Any, place: str, inside: tuple[Any, ...]) -> Any:
        if isinstance(value, BaseModel):
            hidden = {name for name, field in type(value).model_fields.items() if not field.repr}
            value = {name: item for name, item in value if name not in hidden}
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            # What is hidden from its repr, keys above all, is to be hidden from files, too.
            value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.repr}
        if isinstance(value, Mapping):
            return self._mapping(value, place, inside)
        if isinstance(value, Set):
            value = sorted(value, key=repr)  # the same in every process
        if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
            return [self.of(item, f"{place}[{index}]", inside) for index, item in enumerate(value)]
        if isinstance(value, _ListLike) and not isinstance(value, type):
            return self.of(value.tolist(), place, inside)
        return self._text(str(value))

    def _mapping(self, value: Mapping[Any, Any], place: str, inside: tuple[Any, ...]) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        for key, item in value.items():
            name = self._text(key if isinstance(key, str) else str(key))
            if name in plain:  # 1 and "1"
                name = self._text(repr(key))
            if name in plain:
                raise WorkflowError(f"{place} has two keys that read {name!r}")
            plain[name] = self.of(item, f"{place}.{name}", inside)
        return plain

    def _text(self, text: str) -> str:
        """With half surrogate pairs, which nothing can encode, as escapes."""
        self._num_characters += len(text)
        if self._num_characters > MOST_CHARACTERS:
            raise WorkflowError(f"metadata holds more than {MOST_CHARACTERS} characters")
        return text.encode("utf-8", "backslashreplace").decode()
