"""How many values JSON text holds, counted without making one.

Two bytes of text can become fifty of objects, so a bound on bytes bounds neither memory nor time. In: JSON or what
passes for it. Out: a count that is never too low for what a parser gets to see before it meets an error.
"""

from __future__ import annotations

MOST_STRINGS = 50_000
"""Strings, keys included, beyond which nothing is counted: each is a piece to look at."""
_KEPT = b'",[{'
_DROPPED = bytes(byte for byte in range(256) if byte not in _KEPT)


def num_values_at_most(text: bytes | bytearray, most: int) -> int | None:
    """At least the number of values in `text`, or None if there are, or may be, more than `most`.

    Every value but the outermost stands behind a comma or an opening bracket, outside of strings.

    Example: `num_values_at_most(b'{"a, b": [1, 2]}', 9)` is 4.
    """
    # Escapes exist in strings alone. Without them every quotation mark begins or ends one.
    marks = text.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, delete=_DROPPED)
    if marks.count(b'"') > 2 * MOST_STRINGS:
        return None
    outside = b"".join(marks.split(b'"')[::2])
    num_values = 1 + len(outside)
    return num_values if num_values <= most else None
