"""JSON that a model wrote, read as the standard says: what is none is told of in words and never mended.

Python's own reader takes more (NaN, Infinity, numbers that overflow, the last of two keys), and whoever reads the same
text next might not. Everything that reads a model's JSON reads it here.
"""

from __future__ import annotations

import json
import math
from typing import Any

from ajet.chat.types import is_text

MOST_LEVELS = 50
"""How deep arguments may nest: readers further on recurse, each from a stack of its own."""


class NotJsonError(ValueError):
    """What is wrong with the text, to be read behind its name: "holds NaN, which is not JSON"."""


def read_json(text: str) -> Any:
    """The value that the text spells.

    Raises:
        NotJsonError: it spells none, or one that holds a key twice or a number that no float can hold.
    """
    try:
        value = json.loads(
            text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant, parse_float=_finite_float
        )
    except json.JSONDecodeError as error:
        raise NotJsonError(f"is not valid JSON: {error.msg}") from error
    except NotJsonError:
        raise
    except (ValueError, RecursionError) as error:
        raise NotJsonError("nests too deep or holds too long a number") from error
    if _nests_deeper(value, 2 * MOST_LEVELS):
        raise NotJsonError("nests too deep")
    return value


def checked_arguments(value: Any) -> dict[str, Any]:
    """A value that `read_json` gave, as the arguments of a call.

    Raises:
        NotJsonError: it is not an object, nests too deep, or holds text that nothing can encode.
    """
    if not isinstance(value, dict):
        raise NotJsonError("must be an object")
    if _nests_deeper(value, MOST_LEVELS):
        raise NotJsonError(f"nest more than {MOST_LEVELS} levels deep")
    if not is_text(json.dumps(value, ensure_ascii=False)):
        raise NotJsonError("hold half of a surrogate pair, which is not a character")
    return value


def _nests_deeper(value: Any, levels: int) -> bool:
    """Level by level and not by recursion, which the very values that are looked for would exhaust."""
    level = [value]
    for _ in range(levels + 1):
        level = [part for outer in level if isinstance(outer, dict | list) for part in _parts(outer)]
    return bool(level)


def _parts(outer: dict[str, Any] | list[Any]) -> list[Any]:
    return list(outer.values()) if isinstance(outer, dict) else outer


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise NotJsonError("holds a key twice")
    return keys


def _refuse_constant(name: str) -> Any:
    raise NotJsonError(f"holds {name}, which is not JSON")


def _finite_float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise NotJsonError(f"holds {digits[:20]}, which is too large for a number")
    return value
