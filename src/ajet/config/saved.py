"""The configuration of a run directory: the resolved one to its `config.yaml`, and back as a plain `Config`.

Nothing in a file is resolved or run as it is read, for the directory may be another user's.
"""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ajet.config.explain import explain
from ajet.config.options import GROUPS, field_types, is_nullable, option, owners
from ajet.config.renamed import renamed_sections, understand_old_loss
from ajet.config.root import Config
from ajet.config.user_code.finding import split_entry
from ajet.config.user_options import is_user_entry, unloaded_option
from ajet.errors import ConfigError
from ajet.rollout.opponents.base import OwnModelsConfig
from ajet.tracking.files.reading import read_yaml
from ajet.tracking.files.writing import write_text
from ajet.train.algorithms.credit.per_tag import PerTagConfig

_INTERPOLATION = re.compile(r"(\\*)\$\{")


def save(config: Config, path: Path) -> None:
    """Write the resolved configuration as YAML; `StorageError` where it cannot be."""
    write_text(path, yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True))


def load(run: Path) -> Config:
    """The resolved configuration of a run directory, not validated again. Nothing in it is resolved or run.

    Its `run_dir` is where the run is now.

    Raises:
        ConfigError: no such run directory, or its config.yaml does not fit this version of ajet.
        RunDirectoryError: its config.yaml is damaged.
    """
    path = run / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"{run} is not a run directory: it holds no config.yaml")
    try:
        config = cast(Config, OmegaConf.to_object(typed(_without_idle(read_yaml(path)), Config, run_code=False)))
    except (OmegaConfBaseException, TypeError, ValueError) as error:
        raise ConfigError(f"{path} is damaged, or of another version of ajet: {explain(error, Config, [])}") from error
    understand_old_loss(config.algorithm)
    config.workflow.entry = _entry_now(config, run)
    config.run_dir = str(run.absolute())  # a run may be moved; its file says where it was made
    return config


def _entry_now(config: Config, run: Path) -> str:
    """The workflow's entry: one that lies in the run directory, as a notebook's class does, has moved with it."""
    place, name = split_entry(config.workflow.entry)
    made_in = Path(config.run_dir).resolve()
    if not (Path(place).is_absolute() and Path(place).is_relative_to(made_in)):
        return config.workflow.entry
    moved = run.resolve() / Path(place).relative_to(made_in)
    return f"{moved}->{name}" if moved.is_file() else config.workflow.entry


def with_user_options(config: Config, *, opponent: bool = True, training: bool = True) -> Config:
    """A loaded configuration whose options of a user's own are imported, after `require_known_code`.

    Args:
        config: as `load` gives it.
        opponent: whether the opponent's, too; else it stays as it is, for another one takes its place.
        training: whether the credit rule's, too; else it stays as it is, for nothing is learned.

    Raises:
        ConfigError: they cannot be, or no longer have the settings that the run has.
    """
    plain = asdict(config)
    kept: dict[str, Any] = {}
    if not opponent:
        plain["opponent"], kept["opponent"] = asdict(OwnModelsConfig()), config.opponent
    if not training:
        plain["credit"], kept["credit"] = asdict(PerTagConfig()), config.credit
    try:
        loaded = cast(Config, OmegaConf.to_object(typed(plain, type(config))))
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error, Config, [])) from error
    return replace(loaded, **kept)


def _without_idle(content: Any) -> Any:
    """A run directory's configuration by today's keys, without what earlier versions wrote for options that were not
    chosen: there, all options of a group had their settings side by side, null or as they are by default."""
    if not isinstance(content, dict):
        return content
    kept = renamed_sections(content)
    for group in GROUPS:
        section = kept.get(group)
        if isinstance(section, dict) and not is_user_entry(section.get(GROUPS[group].key)):
            chosen = option(group, section.get(GROUPS[group].key))
            kept[group] = {key: value for key, value in section.items() if not _idle(group, chosen, key, value)}
    return kept


def _idle(group: str, chosen: type[Any], key: str, value: Any) -> bool:
    if key in field_types(chosen):
        return value is None and not is_nullable(chosen, key)
    others = [option(group, name)() for name in owners(group, key)]
    return bool(others) and (value is None or any(value == getattr(other, key) for other in others))


def typed(content: Any, schema: type, *, run_code: bool = True) -> DictConfig:
    """Plain data in a schema with the dataclasses of its options; texts are what they are, whatever they look like.

    Args:
        content: read from a file, or composed.
        schema: the root dataclass.
        run_code: whether options of a user's own are imported, and their settings checked.

    Raises:
        ConfigError: there is no option of that name.
        OmegaConfBaseException: a key is unknown or a value has the wrong type.
    """
    tree = OmegaConf.structured(schema)
    for group, about in GROUPS.items():
        if isinstance(content, dict) and isinstance(content.get(group), dict):
            name = content[group].get(about.key)
            unloaded = is_user_entry(name) and not run_code
            kind = unloaded_option(group, name, about.key, content[group]) if unloaded else option(group, name)
            tree[group] = OmegaConf.structured(kind)
    return cast(DictConfig, OmegaConf.merge(tree, literal(content)))


def literal(value: Any) -> Any:
    """The value with its interpolations escaped: they are resolved once, when the command line is read, and never in
    what a file says, which may be another user's."""
    if isinstance(value, str):
        return _INTERPOLATION.sub(lambda found: found[1] * 2 + r"\${", value)
    if isinstance(value, dict):
        return {key: literal(entry) for key, entry in value.items()}
    return [literal(entry) for entry in value] if isinstance(value, list) else value
