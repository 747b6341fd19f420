"""Arguments in, a `CommandLine` out: overrides and flags apart, as Hydra reads them, with its traps removed."""

from __future__ import annotations

import argparse
import numbers
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ajet.config.explain import suggest_key
from ajet.config.hydra_private import flag_parser
from ajet.config.options import choosing, mappings, user_options, values_of
from ajet.config.renamed import with_new_keys
from ajet.config.root import Config
from ajet.errors import ConfigError

_BARE = re.compile(r"[A-Za-z_][\w./-]*")
"""A text that needs no quotes."""
_NO_TEXTS = ("null", "true", "false", "nan", "inf")
"""Words that Hydra reads as other values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """A command line as Hydra reads it."""

    overrides: list[str]
    flag_arguments: list[str]
    flags: argparse.Namespace

    @property
    def arguments(self) -> list[str]:
        """Overrides first, then flags."""
        return [*self.overrides, *self.flag_arguments]


def read(argv: Sequence[str]) -> CommandLine:
    """Read the arguments behind the program's name.

    Raises:
        ConfigError: a flag that does not exist or is fixed.
    """
    argv = choosing(with_new_keys(argv))
    free = {*mappings(Config), *(key for group, kind in user_options(argv) for key in mappings(kind, f"{group}."))}
    argv = [_as_hydra_reads(argument, free) for argument in argv]
    parser = flag_parser()
    try:
        parsed, unknown = parser.parse_known_intermixed_args(argv)
    except argparse.ArgumentError as error:
        raise ConfigError(" ".join(str(error).split())) from error
    if unknown:
        meant = suggest_key(unknown[0].lstrip("-").partition("=")[0], Config)
        raise ConfigError(
            f"unknown flag {unknown[0]}: {meant}settings are written key=value; flags are -m, --cfg job, --help"
        )
    if parsed.config_name is not None or parsed.config_path is not None:
        raise ConfigError("--config-name and --config-path are fixed: add YAML files of your own with --config-dir")
    if parsed.experimental_rerun is not None:
        raise ConfigError("--experimental-rerun would run unchecked what a file holds: resume=<run> continues a run")
    flag_arguments = list(argv)
    for override in parsed.overrides:
        flag_arguments.remove(override)
    return CommandLine(overrides=parsed.overrides, flag_arguments=flag_arguments, flags=parsed)


def _as_hydra_reads(argument: str, free: Collection[str]) -> str:
    """Spare users two rules of Hydra's: `->` needs quotes, and a new key of a mapping needs `++`.

    Args:
        argument: as it was given.
        free: keys of the mappings.
    """
    key, equals, value = argument.partition("=")
    if equals and "->" in value:
        opened, closed = ("[", "]") if value.startswith("[") and value.endswith("]") else ("", "")
        listed = values_of(value.removeprefix(opened).removesuffix(closed))
        values = [each if "->" not in each or each.startswith(("'", '"')) else quoted(each) for each in listed]
        argument = f"{key}={opened}{','.join(values)}{closed}"
    if equals and any(key == one or key.startswith(f"{one}.") for one in free):
        return f"++{argument}"
    return argument


def quoted(value: str) -> str:
    """A value that Hydra's grammar takes as it is."""
    # Backslashes are only special where a quote follows.
    escaped = re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), value)
    return f'"{escaped}"'


def overrides_of(settings: Mapping[str, object]) -> list[str]:
    """Keyword arguments as a command line has them.

    Example: `{"seed": 1, "rollout": {"num_tasks": 4}, "trainable_targets": ["seer"]}` is
    `["seed=1", "rollout.num_tasks=4", "trainable_targets=[seer]"]`.

    Raises:
        ConfigError: a value that no setting can have.
    """
    overrides: list[str] = []
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            overrides += overrides_of({f"{key}.{name}": inner for name, inner in value.items()})
        else:
            overrides.append(f"{key}={_written(key, value)}")
    return overrides


def _written(key: str, value: object) -> str:
    """A Python value in Hydra's grammar."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, numbers.Integral):
        return str(int(value))
    if isinstance(value, numbers.Real):
        return repr(float(value))
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        return value if _BARE.fullmatch(value) and value.lower() not in _NO_TEXTS else quoted(value)
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{name}:{_written(key, inner)}' for name, inner in value.items())}}}"
    if isinstance(value, list | tuple | set | frozenset):
        return f"[{','.join(_written(key, inner) for inner in value)}]"
    raise ConfigError(f"{key}={value!r}: give a number, a text, true or false, None, a list or a mapping of these")
