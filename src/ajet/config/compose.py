"""Overrides in, typed configuration out.

`compose` is Hydra's, over ajet's YAML files. What leaves this module is either Hydra's own tree, for the
entry points, or a plain `Config`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar, cast

from hydra import compose as hydra_compose
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from ajet.config.algorithm import settle_correction
from ajet.config.algorithm_checks import check_user_functions, user_functions
from ajet.config.explain import explain, explain_missing
from ajet.config.fields import BUILTIN_PREFIX, CODE, MAY_CHANGE, PLACE, marked, marked_keys
from ajet.config.hydra_private import TURN, own_hydra
from ajet.config.known_code import require_known_code
from ajet.config.logger import own_logger
from ajet.config.model import resolve_model_path, settle_adapters
from ajet.config.options import GROUPS, choosing, options, parsed
from ajet.config.renamed import understand_old_loss, with_new_keys
from ajet.config.root import Config, EvaluateConfig, PlayConfig
from ajet.config.saved import literal, load, typed
from ajet.config.store import SCHEMAS
from ajet.config.unknown_model import careful_with_unknown
from ajet.config.validate import validate, validate_evaluation
from ajet.config.workflow import ask_class
from ajet.errors import ConfigError

T = TypeVar("T")


def compose_tree(overrides: Sequence[str], *, config_name: str = "train", config_dir: str | None = None) -> DictConfig:
    """Compose the groups as Hydra does, its own `hydra` node included.

    Args:
        overrides: as on the command line, e.g. `["workflow=signals", "seed=1"]`.
        config_name: `train`, `play` or `evaluate`.
        config_dir: one more folder of YAML files.

    Raises:
        ConfigError: a value has a shape that Hydra never expects, e.g. `engine=null`.
        HydraException: an option or a key does not exist, or an override cannot be read.
    """
    with TURN, own_hydra(config_name):
        try:
            return hydra_compose(config_name, with_folder(overrides, config_dir), return_hydra_config=True)
        except (TypeError, ValueError) as error:
            raise ConfigError(explain(error, SCHEMAS[config_name], overrides)) from error


def with_folder(overrides: Sequence[str], config_dir: str | None) -> list[str]:
    """The overrides and one that lets Hydra search one more folder, if there is one."""
    return [*overrides, *([f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"] if config_dir else [])]


def compose(overrides: Sequence[str], *, run_dir: str | Path, config_dir: str | None = None) -> Config:
    """A validated training configuration, for notebooks and tests, and for what is asked about a run beforehand.

    Raises:
        ConfigError: an option or a key does not exist, or a setting cannot work.
    """
    overrides = choosing(with_new_keys(overrides))
    try:
        tree = compose_tree(overrides, config_dir=config_dir)
        with open_dict(tree):
            del tree["hydra"]
        tree.run_dir = str(run_dir)
        return load_training(tree, overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, Config, overrides)) from error


def to_config(tree: DictConfig, schema: type[T]) -> T:
    """A plain, typed object from a composed tree without its `hydra` node.

    Raises:
        ConfigError: a mandatory key has no value.
        OmegaConfBaseException: a key is unknown to the schema or a value has the wrong type.
    """
    missing = OmegaConf.missing_keys(tree)
    if missing:
        raise ConfigError(explain_missing(sorted(missing)[0], tree))
    _check_names(tree)
    # Merged anew into the schema: `+key=value` slips past the one that Hydra composed with.
    return cast(T, OmegaConf.to_object(typed(OmegaConf.to_container(tree, resolve=True), schema)))


def _check_names(tree: DictConfig) -> None:
    """Refuse an option's name that was set apart from the choice, e.g. by a YAML file."""
    for group, about in GROUPS.items():
        chosen = OmegaConf.get_type(tree, group) if group in tree else None
        names = [name for name, kind in options(group).items() if kind is chosen]
        given = tree[group][about.key] if names else None
        if names and given != names[0]:
            raise ConfigError(f"{group}.{about.key} must be {names[0]}, not {given}: write {group}={given}")


def load_training(tree: DictConfig, overrides: Sequence[str]) -> Config:
    """The validated configuration of a new run, or of the run that `resume` names.

    Args:
        tree: composed, without its `hydra` node.
        overrides: the command line's; a resumed run takes over only these, and only the harmless ones.

    Raises:
        ConfigError: a setting cannot work, or cannot change in a run that is resumed.
    """
    resume = OmegaConf.select(tree, "resume")
    config = to_config(tree, Config) if resume is None else _continued(Path(resume), tree, overrides)
    config.workflow = ask_class(config.workflow)
    understand_old_loss(config.algorithm)
    if resume is None:
        settle_adapters(config.model.lora, overrides, server_trains=config.engine.trains)
        careful_with_unknown(config, overrides)
    settle_correction(
        config.algorithm,
        may_be_stale=config.rollout.max_steps_off_policy > 0,
        # A run that began without a correction goes on without.
        formats_differ=config.rounds_coarsely and resume is None,
    )
    validate(config)
    check_user_functions(config.algorithm)
    own_logger(config.logger)
    _anchor_paths(config)
    return config


def _anchor_paths(config: Config) -> None:
    """Make local paths absolute: a resume from another directory finds them, and so does a run whose workflow changes
    the directory of its process."""
    config.run_dir = str(Path(config.run_dir).absolute())
    if not config.model.path.startswith(BUILTIN_PREFIX):
        config.model.path = resolve_model_path(config.model.path)
    for named in (*marked(config, CODE), *marked(config, PLACE)):
        setattr(named.section, named.name, _anchored(named.value))
    for setting, entry in user_functions(config.algorithm):
        setattr(config.algorithm, setting.rpartition(".")[2], _anchored(entry))


def _anchored(place: str) -> str:
    """`path`, `path.py->name` or neither, with a path that exists made absolute."""
    source, arrow, name = place.partition("->")
    return f"{Path(source).resolve()}{arrow}{name}" if Path(source).exists() else place


def _continued(run: Path, tree: DictConfig, overrides: Sequence[str]) -> Config:
    found = load(run)
    trusted = bool(OmegaConf.select(tree, "trust_code"))
    require_known_code(found, run, setting=f"resume={run}", trusted=trusted, own_opponent=True, training=True)
    saved = typed(asdict(found), Config)
    changeable = tuple(marked_keys(Config(), MAY_CHANGE))
    for override in parsed(overrides):
        key = override.key_or_group.replace("/", ".")
        if key in ("resume", "trust_code") or key.startswith("hydra."):
            continue
        if not any(key == allowed or key.startswith(f"{allowed}.") for allowed in changeable):
            raise ConfigError(
                f"resume continues a run as it was, so {key} cannot change; only {', '.join(changeable)} can"
            )
        OmegaConf.update(saved, key, literal(_resolved(tree, key)))
    if saved.engine.name == "tinker":
        saved.engine.service = saved.tinker
    if saved.logger.own is None:
        saved.logger.own_args = {}  # of the logger that the run is resumed without
    saved.resume, saved.run_dir = literal(str(run)), literal(str(tree.run_dir))
    saved.trust_code = trusted
    return to_config(saved, Config)


def _resolved(tree: DictConfig, key: str) -> Any:
    value = OmegaConf.select(tree, key)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def load_play(tree: DictConfig, overrides: Sequence[str]) -> PlayConfig:
    """The validated configuration of episodes to look at; arguments and errors as `load_training`."""
    config = to_config(tree, PlayConfig)
    if config.resume is not None:
        raise ConfigError("resume continues training: python -m ajet.train resume=...")
    config.workflow = ask_class(config.workflow)
    understand_old_loss(config.algorithm)
    settle_adapters(config.model.lora, overrides, server_trains=config.engine.trains)
    validate(config)
    _anchor_paths(config)
    return config


def load_evaluation(tree: DictConfig, overrides: Sequence[str]) -> EvaluateConfig:
    """The validated configuration of an evaluation; same arguments and errors as `load_training`."""
    config = to_config(tree, EvaluateConfig)
    validate_evaluation(config)
    return config
