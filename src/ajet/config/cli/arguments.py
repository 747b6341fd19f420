"""Arguments in, a `Command` out: overrides and flags apart, as Hydra reads them, with its traps removed."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from hydra._internal.utils import get_args_parser

from ajet.config.explain import FREE_KEYS, suggest_key
from ajet.config.root import Config
from ajet.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command line as Hydra reads it."""

    overrides: list[str]
    flag_arguments: list[str]
    flags: argparse.Namespace

    @property
    def arguments(self) -> list[str]:
        """Overrides first, then flags."""
        return [*self.overrides, *self.flag_arguments]


def read(argv: Sequence[str]) -> Command:
    """Read the arguments behind the program's name.

    Raises:
        ConfigError: a flag that does not exist or is fixed.
    """
    parser = get_args_parser()
    parser.exit_on_error = False
    try:
        parsed, unknown = parser.parse_known_intermixed_args([_as_hydra_reads(argument) for argument in argv])
    except argparse.ArgumentError as error:
        raise ConfigError(" ".join(str(error).split())) from error
    if unknown:
        meant = suggest_key(unknown[0].lstrip("-").partition("=")[0], Config)
        raise ConfigError(
            f"unknown flag {unknown[0]}: {meant}settings are written key=value; flags are -m, --cfg job, --help"
        )
    if parsed.config_name is not None or parsed.config_path is not None:
        raise ConfigError("--config-name and --config-path are fixed: add YAML files of your own with --config-dir")
    flag_arguments = [_as_hydra_reads(argument) for argument in argv]
    for override in parsed.overrides:
        flag_arguments.remove(override)
    return Command(overrides=parsed.overrides, flag_arguments=flag_arguments, flags=parsed)


def _as_hydra_reads(argument: str) -> str:
    """Spare users two rules of Hydra's: `->` needs quotes, and a new key of a mapping needs `++`."""
    key, equals, value = argument.partition("=")
    if equals and "->" in value and not value.startswith(("'", '"')):
        argument = f"{key}={quoted(value)}"
    if equals and any(key == free or key.startswith(f"{free}.") for free in FREE_KEYS):
        return f"++{argument}"
    return argument


def quoted(value: str) -> str:
    """A value that Hydra's grammar takes as it is."""
    escaped = value.replace('"', '\\"')
    return f'"{escaped}"'
