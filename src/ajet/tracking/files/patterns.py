"""Names with placeholders, e.g. `step_<n>` or `reward/<tag>/mean`: whether a text is one of such a family."""

from __future__ import annotations

import re
from collections.abc import Mapping


def matches(pattern: str, text: str, placeholders: Mapping[str, str]) -> bool:
    """Whether the whole text fits.

    Args:
        pattern: text with placeholders in angle brackets; everything else stands for itself.
        text: a name or relative path.
        placeholders: the regular expression that each stands for, by its name with the brackets.
    """
    parts = re.split("(<[a-z_]+>)", pattern)
    return re.fullmatch("".join(placeholders.get(part, re.escape(part)) for part in parts), text) is not None
