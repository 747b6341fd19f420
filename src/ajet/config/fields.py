"""What a single value may be: a default and its bounds in, a dataclass field with a checkable rule out.

Only rules on one value live here; rules that relate two settings are in `validate.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

RULE = "rule"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Bounds of one value; None is always allowed where the type allows it."""

    choices: tuple[str, ...] = ()
    """The only values; empty for any."""
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None

    def complaint(self, value: object) -> str | None:
        """What is wrong with the value, as the end of a sentence, or None.

        Example: `Rule(at_least=1).complaint(-3)` is "must be at least 1, not -3".
        """
        if value is None:
            return None
        if self.choices and value not in self.choices:
            return f"must be {'one of ' * (len(self.choices) > 1)}{', '.join(self.choices)}, not {value}"
        if not isinstance(value, int | float):
            return None
        # Each as `holds`, not as its reverse: NaN satisfies no bound.
        bounds = (
            ("at least", self.at_least, self.at_least is None or value >= self.at_least),
            ("above", self.above, self.above is None or value > self.above),
            ("at most", self.at_most, self.at_most is None or value <= self.at_most),
            ("below", self.below, self.below is None or value < self.below),
        )
        if all(holds for _, _, holds in bounds):
            return None
        wanted = " and ".join(f"{word} {bound:g}" for word, bound, _ in bounds if bound is not None)
        return f"must be {wanted}, not {value}"


def ruled(default: Any, **bounds: Any) -> Any:
    """A dataclass field with a default and a `Rule` made of `bounds`."""
    return field(default=default, metadata={RULE: Rule(**bounds)})


def one_of(default: str | None, *choices: str) -> Any:
    """A field that takes one of the named values."""
    return ruled(default, choices=choices)


def broken_rules(config: object, prefix: str = "") -> Iterator[str]:
    """One sentence for each value, at any depth, that breaks its field's rule or is a number that is not finite."""
    assert is_dataclass(config)
    for spec in fields(config):
        value, key = getattr(config, spec.name), f"{prefix}{spec.name}"
        if is_dataclass(value):
            yield from broken_rules(value, f"{key}.")
            continue
        yield from _not_finite(value, key)
        if RULE in spec.metadata:
            complaint = spec.metadata[RULE].complaint(value)
            if complaint is not None:
                yield f"{key} {complaint}"


def _not_finite(value: object, key: str) -> Iterator[str]:
    """A sentence for each infinity and NaN in a value, free-form mappings and lists included."""
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{key} must be a finite number, not {value}"
    elif isinstance(value, Mapping):
        for name, entry in value.items():
            yield from _not_finite(entry, f"{key}.{name}")
    elif isinstance(value, list | tuple):
        for i, entry in enumerate(value):
            yield from _not_finite(entry, f"{key}.{i}")
