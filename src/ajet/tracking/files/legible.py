"""Text of any origin in, text that every terminal, file and table takes out."""

from __future__ import annotations

import re

_ILLEGIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def escape_control_characters(text: str) -> str:
    """A name or a line as any terminal, file and table takes it: control characters, line ends and half surrogate
    pairs become escapes, a line end the two characters of `\\n`. What is legible stays as it is."""
    if text.isprintable():
        return text
    return _ILLEGIBLE.sub(lambda found: found.group().encode("unicode_escape").decode(), text)
