"""Compares what a user is told with the names it has to have, whatever the words between them."""

from __future__ import annotations

import re


def names(said: str, wanted: str) -> bool:
    """Whether `said` has these settings, values and choices, whole and in this order.

    `...` stands for the words between: "seed must be at least 0, not -1" has "seed ... 0 ... -1", and neither
    "seed ... -10" nor "-1 ... seed".
    """
    parts = [rf"(?<!\w){re.escape(part)}(?!\w)" for part in wanted.split(" ... ")]
    return re.search(".*?".join(parts), said) is not None
