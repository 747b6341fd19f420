"""What a single value may be: a default and its bounds in, a dataclass field with a checkable rule out.

All of `config` that a component needs to declare its own settings, so that the root schema may import components. Only
rules on one value live here: those that relate settings of one option are its own, those that relate groups are in
`validate.py`.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from types import MappingProxyType
from typing import Any

from omegaconf import MISSING

from ajet.errors import ConfigError

BUILTIN_PREFIX = "builtin:"
PACKAGED_PREFIX = "package:"
"""Before the name of a model or a file that ships with ajet."""
RULE = "rule"
NEEDED = "needed"
CODE = "code"
PLACE = "place"
SENT_TO = "sent_to"
MAY_CHANGE = "may_change"
"""Mark of what a resumed run may change: it touches nothing that was already computed."""
TRAINING_ONLY = "training_only"
"""Mark of what `ajet.rollout` takes, so that a command to train can be played as it is, and does not read."""
_BLANK = re.compile(r"\s")
_PASSWORD = re.compile(r"(?<=://)[^/?#]*:[^/?#]*@|(?<=http://)[^/?#]*@|(?<=https://)[^/?#]*@", re.IGNORECASE)
COMPARED = "compared"
"""Mark of that in which compared runs must agree, or their scores would differ for another reason than training."""


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


def named(option: str) -> Any:
    """The field `name` of an option's dataclass: its default is the only value."""
    return ruled(option, choices=(option,))


def needed(what: str = "") -> Any:
    """A field without a default: who chooses the option must set it.

    Args:
        what: what to set it to, for the error where it is not set.
    """
    return field(default=MISSING, metadata={NEEDED: what})


def code(default: str | None = None, *, needed: str | None = None) -> Any:
    """A field that names code of a user's, as `package.module:name` or `path/file.py->name`.

    Such code is looked for before anything heavy loads, and a run directory that names it is not believed unasked.
    `needed`: there is no default, and this is what to set it to.
    """
    if needed is not None:
        return field(default=MISSING, metadata={CODE: True, NEEDED: needed})
    return field(default=default, metadata={CODE: True})


def place(*, needed: str | None = None) -> Any:
    """A field that names a file or folder, which is made absolute; anything that does not exist stays as it is."""
    if needed is not None:
        return field(default=MISSING, metadata={PLACE: True, NEEDED: needed})
    return field(default=None, metadata={PLACE: True})


def key_variable(*, sent_to: str) -> Any:
    """A field that names the environment variable whose secret is sent to the address in the field `sent_to`."""
    return field(default=None, metadata={SENT_TO: sent_to})


def read_key(setting: str, variable: str | None) -> str:
    """The secret that an environment variable holds; "none" where none is named, as servers without keys take it.

    Args:
        setting: e.g. `judge.api_key_env`, for the message.
        variable: its value.

    Raises:
        ConfigError: the variable is not set.
    """
    key = "none" if variable is None else os.environ.get(variable)
    if key is None:
        raise ConfigError(
            f"{setting}={variable} is not set in the environment: export it, or set {setting}=null for a server "
            "without keys"
        )
    return key


def marks(*names: str) -> Mapping[str, bool]:
    """Metadata of a plain field or of a whole section: `field(default_factory=dict, metadata=marks(COMPARED))`."""
    return dict.fromkeys(names, True)


def with_marks(spec: Any, *names: str) -> Any:
    """Likewise for a field with a rule: `with_marks(ruled(20, at_least=1), MAY_CHANGE)`."""
    spec.metadata = MappingProxyType({**spec.metadata, **marks(*names)})
    return spec


def marked_keys(config: object, mark: str, prefix: str = "") -> Iterator[str]:
    """The dotted keys of the settings and sections that have a mark, whatever their values."""
    assert is_dataclass(config)
    for spec in fields(config):
        value, key = getattr(config, spec.name), f"{prefix}{spec.name}"
        if mark in spec.metadata:
            yield key
        elif is_dataclass(value):
            yield from marked_keys(value, mark, f"{key}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """A value whose field is marked."""

    key: str
    """Its dotted key."""
    section: Any
    """The dataclass that it stands in."""
    name: str
    """Its field there."""
    mark: Any

    @property
    def value(self) -> Any:
        """The value that the setting has now."""
        return getattr(self.section, self.name)


def marked(config: object, mark: str, prefix: str = "") -> Iterator[Marked]:
    """The values at any depth whose fields have a mark (`CODE`, `PLACE` or `SENT_TO`), null ones left out."""
    assert is_dataclass(config)
    for spec in fields(config):
        value, key = getattr(config, spec.name), f"{prefix}{spec.name}"
        if is_dataclass(value):
            yield from marked(value, mark, f"{key}.")
        elif mark in spec.metadata and value is not None:
            yield Marked(key=key, section=config, name=spec.name, mark=spec.metadata[mark])


def shows_password(value: object) -> bool:
    """Whether a text is a URL with a user's name and password before its host; with http a name alone is one, too."""
    return isinstance(value, str) and not _BLANK.search(value) and bool(_PASSWORD.search(value))


def password_shown(key: str) -> str:
    """What is wrong with a setting that shows one, without its value. What a server is sent in its place, if anything,
    is the key whose variable is named beside `base_url`."""
    section = key.lower().removesuffix("base_url")
    instead = (
        f", and export the key that {section.replace('_', '.')}api_key_env names" if section != key.lower() else ""
    )
    return f"{key} must not hold a password, which config.yaml, messages and W&B would show: leave it out{instead}"


def without_password(text: str) -> str:
    """A text that may show one, without it."""
    return _PASSWORD.sub("***@", text)


def broken_rules(config: object, prefix: str = "") -> Iterator[str]:
    """One sentence for each value, at any depth, that breaks its field's rule, is a number that is not finite, or a URL
    with a password, for configurations are written to files."""
    assert is_dataclass(config)
    for spec in fields(config):
        value, key = getattr(config, spec.name), f"{prefix}{spec.name}"
        if is_dataclass(value):
            yield from broken_rules(value, f"{key}.")
            continue
        yield from _not_finite(value, key)
        if any(map(shows_password, _texts(value))):
            yield password_shown(key)
        if RULE in spec.metadata:
            complaint = spec.metadata[RULE].complaint(value)
            if complaint is not None:
                yield f"{key} {complaint}"


def _texts(value: object) -> Iterator[object]:
    """The single values in a value, free-form mappings and lists included."""
    if isinstance(value, Mapping):
        value = [*value.values()]
    if isinstance(value, list | tuple):
        for entry in value:
            yield from _texts(entry)
    else:
        yield value


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
