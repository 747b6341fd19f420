"""The options of a group: a dataclass each, which stands beside the component that it configures and builds it.

In: a group and the name of one of its options. Out: the option's dataclass, or all keys that a schema can have. Hydra
composes with these dataclasses, so that it refuses a setting that the chosen option does not have.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import MISSING

from ajet.config.user_options import is_user_entry, user_option
from ajet.data.source import DataConfig
from ajet.engine.base import EngineConfig
from ajet.errors import ConfigError
from ajet.rollout.judges.base import JudgeConfig
from ajet.rollout.opponents.base import OpponentConfig
from ajet.train.algorithms.credit.base import CreditConfig

_DECLARES = re.compile(r"^class \w+\(\w+Config\):", re.MULTILINE)
_VALUE = re.compile(r"""'[^']*'|"[^"]*"|[^,]+""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A group whose options are components with settings of their own."""

    base: type[Any]
    """What the options' dataclasses have in common."""
    package: str
    """Where they are looked for."""
    key: str = "name"
    """The field that holds the option's name."""


GROUPS: Mapping[str, Group] = {
    "engine": Group(base=EngineConfig, package="ajet.engine"),
    "opponent": Group(base=OpponentConfig, package="ajet.rollout.opponents"),
    "judge": Group(base=JudgeConfig, package="ajet.rollout.judges"),
    "credit": Group(base=CreditConfig, package="ajet.train.algorithms.credit"),
    "data": Group(base=DataConfig, package="ajet.data", key="reader"),
}


@cache
def options(group: str) -> dict[str, type[Any]]:
    """The group's dataclasses by the options' names, sorted.

    They are found, not listed: an option is added by its file. Only modules whose text declares one are imported, for
    others of the package may load torch. A user's subclass of one, which has its name, too, stands in none of them.
    """
    spec = find_spec(GROUPS[group].package)
    assert spec is not None and spec.submodule_search_locations
    found: dict[str, type[Any]] = {}
    for folder in spec.submodule_search_locations:
        for path in Path(folder).glob("*.py"):
            if _DECLARES.search(path.read_text(encoding="utf-8")):
                module = importlib.import_module(f"{GROUPS[group].package}.{path.stem}")
                found |= {name: kind for kind in vars(module).values() if (name := _named(kind, group, module))}
    return dict(sorted(found.items()))


def _named(kind: object, group: str, module: ModuleType) -> str | None:
    """The name of the option whose dataclass this is; None for anything else, and for what several options share."""
    about = GROUPS[group]
    if not (isinstance(kind, type) and issubclass(kind, about.base) and kind.__module__ == module.__name__):
        return None
    name = next(spec.default for spec in fields(kind) if spec.name == about.key)
    return None if name == MISSING else str(name)


def option(group: str, name: object) -> type[Any]:
    """The dataclass of one option.

    A user's own is imported.

    Raises:
        ConfigError: the group has no such option.
    """
    known = options(group)
    if name in known:
        return known[str(name)]
    if is_user_entry(name):
        return user_option(group, str(name), GROUPS[group].key)
    raise ConfigError(f"{group}.{GROUPS[group].key} must be one of {', '.join(known)}, not {name}")


def register_user_option(group: str, entry: str) -> None:
    """Make a user's own option known to Hydra under its import path.

    Raises:
        ConfigError: as `user_option`.
    """
    folder, _, name = entry.rpartition("/")
    # Hydra takes what is before a slash for groups.
    place = "/".join([group, *filter(None, folder.split("/"))])
    ConfigStore.instance().store(group=place, name=name, node=option(group, entry), package=group)


def parsed(overrides: Sequence[str]) -> list[Override]:
    """The overrides as Hydra's grammar reads them.

    Raises:
        HydraException: one cannot be read.
    """
    return OverridesParser.create().parse_overrides(list(overrides))


def choosing(overrides: Sequence[str]) -> list[str]:
    """Overrides as Hydra can follow them: `engine.name=x` is written as what it means, `engine=x`, for another option
    has other settings, and an option of the user's own is made known.

    Where the group is chosen as well, the name stays and has to be that option's.

    Raises:
        ConfigError: an option of the user's own cannot be imported or used.
    """
    written = {override.lstrip("+").partition("=")[0] for override in overrides}
    meant = {f"{name}.{group.key}": name for name, group in GROUPS.items() if name not in written}
    parts = [override.lstrip("+").partition("=") for override in overrides]
    chosen = [
        f"{meant[key]}={value}" if equals and key in meant else override
        for (key, equals, value), override in zip(parts, overrides, strict=True)
    ]
    return [_with_user_options(override) for override in chosen]


def _with_user_options(override: str) -> str:
    group, entries = _chosen_user_options(override)
    for entry in entries:
        register_user_option(group, entry)
    values = [value.strip("'\"") for value in values_of(override.partition("=")[2])]
    written = [f'"{value}"' if value in entries else value for value in values]
    return f"{group}={','.join(written)}" if entries else override


def _chosen_user_options(override: str) -> tuple[str, list[str]]:
    """(group, the user's own options among those that it chooses), several for a sweep."""
    group, _, value = override.partition("=")
    if group not in GROUPS or value.startswith(("[", "{")):
        return group, []
    return group, [entry for entry in (each.strip("'\"") for each in values_of(value)) if is_user_entry(entry)]


def values_of(value: str) -> list[str]:
    """The values of a sweep as they are written; one where none is swept.

    Example: `a.py->A,"b,c.py->B"` has two.
    """
    return [value] if value.startswith(("[", "{")) else [each.strip() for each in _VALUE.findall(value)]


def user_options(overrides: Sequence[str]) -> list[tuple[str, type[Any]]]:
    """(group, dataclass) of each option of a user's own that is chosen.

    Raises:
        ConfigError: as `user_option`.
    """
    chosen = [_chosen_user_options(override) for override in overrides]
    return [(group, option(group, entry)) for group, entries in chosen for entry in entries]


def mappings(schema: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted key that holds a mapping, in which any name may be set."""
    for name, kind in field_types(schema).items():
        if is_dataclass(kind):
            yield from mappings(kind, f"{prefix}{name}.")
        elif (get_origin(kind) or kind) is dict:
            yield f"{prefix}{name}"


def group_of(schema: Any) -> str | None:
    """The group whose options share a dataclass; None for any other dataclass."""
    return next((name for name, group in GROUPS.items() if group.base is schema), None)


def owners(group: str, setting: str) -> list[str]:
    """The options that have a setting."""
    return [name for name, kind in options(group).items() if setting in field_types(kind)]


def field_types(schema: Any) -> dict[str, Any]:
    """Field name -> type without its `| None`; of what options share, the fields of all of them."""
    group = group_of(schema)
    found: dict[str, Any] = {}
    for kind in (schema, *(options(group).values() if group else ())):
        hints = get_type_hints(kind)
        found |= {spec.name: _without_none(hints[spec.name]) for spec in fields(kind)}
    return found


def keys(schema: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted key that a schema can have, sections included."""
    for name, kind in field_types(schema).items():
        yield f"{prefix}{name}"
        if is_dataclass(kind):
            yield from keys(kind, f"{prefix}{name}.")


def leaves(schema: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted key that can be set, sections excepted."""
    for name, kind in field_types(schema).items():
        if is_dataclass(kind):
            yield from leaves(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def is_nullable(schema: type[Any], name: str) -> bool:
    """Whether a field takes null."""
    return NoneType in get_args(get_type_hints(schema)[name])


def _without_none(hint: Any) -> Any:
    if get_origin(hint) in (Union, UnionType):
        return next(arg for arg in get_args(hint) if arg is not NoneType)
    return hint
