"""Settings that the command line names and that nothing in the run would read: a config and its overrides in, a
sentence for each out.

What composition chose by itself is left alone: `opponent=scripted` is a default and says nothing, `opponent=frozen` in
a command is a wish. One table holds every such setting; settings that the chosen option of a group does not have are
refused beside the group, and what only play can show (a judge that is never asked) is said there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

from ajet.config.fields import TRAINING_ONLY, marked_keys
from ajet.config.hardware import HardwareConfig
from ajet.config.options import parsed
from ajet.config.root import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class _UnusedSetting:
    """When some settings have no effect."""

    keys: tuple[str, ...]
    why: Callable[[Config, Mapping[str, str]], str | None]
    """(config, named overrides by key) -> what makes them so and what to do, or None if they are read."""


def untrained_tags(config: Config) -> list[str] | None:
    """The workflow's tags that an opponent plays; None where only play can tell."""
    if not config.workflow.target_tags:
        return None
    trained = config.workflow.target_tags if config.trainable_targets is None else config.trainable_targets
    return [tag for tag in config.workflow.target_tags if tag not in trained]


def opponents_tags(config: Config) -> list[str] | None:
    """The workflow's tags that an opponent plays in training, in replays for the credit rule, too; None where only play
    can tell."""
    if not config.credit.asks_opponent:
        return untrained_tags(config)
    return list(config.workflow.target_tags) if config.workflow.target_tags else None


def why_no_opponent(config: Config) -> str | None:
    """Why an opponent would have no agent to play; None if it has, or may have."""
    if untrained_tags(config) != []:
        return None
    return f"every role of {config.workflow.entry} is trained, so no opponent plays: drop it, or name trainable_targets"


def _opponent_is_not_asked(config: Config, named: Mapping[str, str]) -> str | None:
    return None if config.credit.asks_opponent else why_no_opponent(config)


def _directory_is_named(config: Config, named: Mapping[str, str]) -> str | None:
    directory = next((key for key in ("run_dir", "hydra.run.dir", "resume") if key in named), None)
    return None if directory is None else f"{directory} says where the run goes: drop one of them"


def _nothing_is_sampled(config: Config, named: Mapping[str, str]) -> str | None:
    return "engine=scripted computes nothing: drop it" if config.engine.name == "scripted" else None


def _is_trained_elsewhere(config: Config, named: Mapping[str, str]) -> str | None:
    if not config.engine.trains:
        return None
    return f"engine={config.engine.name} computes nothing on this machine, its server samples and trains: drop it"


def _is_alone(config: Config, named: Mapping[str, str]) -> str | None:
    return "this is a single run: add -m for a sweep, or drop it"


_RULES = (
    _UnusedSetting(keys=("opponent",), why=_opponent_is_not_asked),
    _UnusedSetting(keys=("paths.output_root",), why=_directory_is_named),
    _UnusedSetting(keys=("hardware.sampling_threads",), why=_nothing_is_sampled),
    _UnusedSetting(
        # Costs are read: rows that begin alike are joined by them here, too.
        keys=tuple(f"hardware.{setting.name}" for setting in fields(HardwareConfig) if setting.name != "costs"),
        why=_is_trained_elsewhere,
    ),
)
_SINGLE_RUN_RULE = _UnusedSetting(
    keys=("sweep.batch_size", "launcher", "hydra.launcher", "hydra.sweeper", "hydra.sweep"), why=_is_alone
)


def unused_settings(config: Config, overrides: Sequence[str], *, is_sweep: bool) -> dict[str, str]:
    """A sentence for each named setting that nothing reads.

    Args:
        config: of the run, composed and valid.
        overrides: the command line's.
        is_sweep: whether the run is one of several, which share their command line.
    """
    named = _named(overrides)
    rules = _RULES if is_sweep else (*_RULES, _SINGLE_RUN_RULE)
    found: dict[str, str] = {}
    for key, override in named.items():
        for rule in rules:
            why = rule.why(config, named) if _covered(key, rule.keys) else None
            if why is not None:
                found[override] = f"{override} has no effect: {why}"
    return found


def training_only_settings(overrides: Sequence[str]) -> list[str]:
    """The named settings that play without training does not read."""
    idle = tuple(marked_keys(Config(), TRAINING_ONLY))
    return [override for key, override in _named(overrides).items() if _covered(key, idle)]


def _named(overrides: Sequence[str]) -> dict[str, str]:
    named = (item for item in parsed(overrides) if not item.is_delete())
    return {item.key_or_group.replace("/", "."): str(item.input_line).lstrip("+") for item in named}


def _covered(key: str, keys: Sequence[str]) -> bool:
    return any(key == one or key.startswith(f"{one}.") for one in keys)
