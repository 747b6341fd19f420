"""`engine=my_pkg.engines.MyEngine` or `engine=my_file.py->MyEngine`: an option that a user wrote.

In: a group and an import path. Out: a dataclass like those of the options that ship with ajet, made of the dataclass
that the class's `__init__` annotates as its first parameter (or of a nested `Config`), so that settings are checked
alike. The user's file is imported here; nothing else is.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass
from functools import cache, partial
from inspect import signature
from typing import Any, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ajet.config.component import check_async, check_component
from ajet.config.fields import CODE, RULE, Rule, needed
from ajet.config.user_code.importing import load_object
from ajet.data.listed import ListConfig
from ajet.engine.base import EngineConfig
from ajet.errors import ConfigError
from ajet.rollout.judges.base import JudgeConfig
from ajet.rollout.opponents.base import OpponentConfig
from ajet.tracking.own_logger import OwnLoggerConfig
from ajet.train.algorithms.credit.base import CreditConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """What a group asks of a class, and offers it."""

    base: type[Any]
    """What the configuration is in any case; its `build` constructs the class."""
    methods: tuple[str, ...]
    awaited: tuple[str, ...] = ()
    """Those of the methods that must be async."""
    offered: tuple[str, ...]
    """What `__init__` may name behind the configuration."""


INTERFACES: Mapping[str, Interface] = {
    "engine": Interface(
        base=EngineConfig,
        methods=("generate", "update_weights", "close"),
        awaited=("generate",),
        offered=("model_path", "max_context", "dtype", "device", "num_threads"),
    ),
    "opponent": Interface(
        base=OpponentConfig, methods=("chat",), awaited=("chat",), offered=("agent_name", "target_tag", "rng")
    ),
    "judge": Interface(base=JudgeConfig, methods=("compute_reward",), offered=("run_config", "run_dir")),
    "credit": Interface(
        base=CreditConfig, methods=("pools", "begin_step", "state_dict", "load_state_dict", "replays"), offered=()
    ),
    "logger.own": Interface(
        base=OwnLoggerConfig, methods=("log", "close"), offered=("run_config", "run_dir", "earlier")
    ),
    "data": Interface(base=ListConfig, methods=("train",), offered=()),
}


def is_user_entry(name: object) -> bool:
    """Whether an option's name is an import path."""
    return isinstance(name, str) and any(mark in name for mark in ("->", ":", "."))


def user_option(group: str, entry: str, key: str) -> type[Any]:
    """The configuration of a user's class.

    Args:
        group: e.g. `engine`.
        entry: the class's import path.
        key: the field that holds it, `name` in most groups.

    Raises:
        ConfigError: it cannot be imported, or lacks what the group asks of it.
    """
    component = load_object(entry, setting=group)
    if not isinstance(component, type):
        raise ConfigError(f"{group}={entry} is not a class")
    return _option_of(component, group, entry, key)


@cache  # by the class itself, which is another one once its file was edited
def _option_of(component: type[Any], group: str, entry: str, key: str) -> type[Any]:
    setting, interface = f"{group}={entry}", INTERFACES[group]
    check_component(component, setting, offered=interface.offered, methods=interface.methods)
    check_async(component, setting, interface.awaited)
    own = _own_config(component, setting)
    bases = (own,) if issubclass(own, interface.base) else (own, interface.base)
    # A field without a default would have to stand before those of the group, which have one.
    required = [(spec.name, spec.type, needed()) for spec in fields(own) if _is_required(spec)]
    try:
        made = make_dataclass(
            f"{component.__name__}Option",
            [(key, str, _entry(entry)), *required],
            bases=bases,
            namespace={"component": component, "__module__": own.__module__, "__doc__": component.__doc__},
        )
        OmegaConf.structured(made)  # a default that its field cannot have, or a type that no setting has
    except (TypeError, ValueError, OmegaConfBaseException) as error:
        said = str(error).partition("\n")[0]
        raise ConfigError(f"{setting}: {own.__name__} cannot hold settings: {said}") from error
    return made


def unloaded_option(group: str, entry: str, key: str, content: Mapping[str, Any]) -> type[Any]:
    """A configuration of a user's class that takes a run directory's settings as they are: the code that could check
    them is not run before it is known to be the user's own."""
    specs = [(name, Any, field(default_factory=partial(deepcopy, value))) for name, value in content.items()]
    kept = [spec for spec in specs if spec[0] != key]
    return make_dataclass("UnloadedOption", [(key, str, _entry(entry)), *kept], bases=(INTERFACES[group].base,))


def _entry(entry: str) -> Any:
    return field(default=entry, metadata={RULE: Rule(choices=(entry,)), CODE: True})


def _is_required(spec: Any) -> bool:
    return spec.default is NO_DEFAULT and spec.default_factory is NO_DEFAULT


@dataclass
class _NoSettings:
    """Of a class that has none."""


def _own_config(component: type[Any], setting: str) -> type[Any]:
    """The dataclass of the class's settings."""
    try:
        hints = get_type_hints(component.__init__)
    except NameError as error:  # of a name that is imported for type checkers alone
        raise ConfigError(f"{setting}: the annotations of __init__ cannot be read: {error}") from error
    first = next(iter(signature(component).parameters), "")
    for kind in (hints.get(first), vars(component).get("Config")):
        if isinstance(kind, type) and is_dataclass(kind):
            return kind
    return _NoSettings
