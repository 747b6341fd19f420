"""What `algorithm.loss`, `algorithm.advantage` or `algorithm.aggregation` names, with its settings.

A short name is a file of `losses/`, `advantages/` or `aggregations/` with a function of that name; anything else is
code of the user's. The settings of a function are its keyword-only parameters, those of a class the parameters it is
made with: one that is called like a key of `algorithm` has that key's value, any other is set by
`algorithm.<loss|advantage|aggregation>_args.<name>`, and its annotation says what may stand there.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from ajet.config.algorithm import AlgorithmConfig
from ajet.config.algorithm_checks import OPTION_FOLDERS, check_read, is_built_in
from ajet.config.user_code.importing import load_object
from ajet.config.user_code.lines import one_line
from ajet.config.user_code.running import running_user_code
from ajet.errors import AlgorithmError, ConfigError, is_users


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """What one setting names, ready to be called."""

    setting: str
    """With its value, for errors, e.g. `algorithm.loss=my_file.py->my_loss`."""
    function: Callable[..., Any]
    is_own: bool
    """Whether it is code of the user's."""

    @contextmanager
    def runs(self) -> Iterator[None]:
        """Around each call: what code of the user's raises becomes a sentence that names it and the line.

        Raises:
            AlgorithmError: it raised something.
        """
        try:
            yield
        except AlgorithmError:
            raise
        except Exception as error:  # the boundary to code that users write
            if not self.is_own or is_users(error):
                raise
            raise AlgorithmError(f"{self.setting}: {one_line(error)}") from error


def find_option(kind: str, algorithm: AlgorithmConfig, *, num_given: int) -> Option:
    """Import what `algorithm.<kind>` names, and give it its settings.

    Args:
        kind: `loss`, `advantage` or `aggregation`.
        algorithm: the group.
        num_given: how many values it will be given by place.

    Raises:
        ConfigError: nothing of that name, a setting that it does not have, that it lacks or that is not of its type,
            or a key of `algorithm` that nothing reads.
    """
    name: str = getattr(algorithm, kind)
    setting, is_own = f"algorithm.{kind}={name}", not is_built_in(kind, name)
    if is_own:
        found = load_object(name, setting=f"algorithm.{kind}")
    else:
        found = getattr(importlib.import_module(f"ajet.train.algorithms.{OPTION_FOLDERS[kind]}.{name}"), name)
    with running_user_code(setting):
        if not callable(found):
            raise ConfigError(f"{setting} is neither a function nor a class")
        settings = _settings(kind, found, algorithm)
        made: Any = found(**settings) if inspect.isclass(found) else partial(found, **settings)
        _check_places(setting, made, num_given)
    return Option(setting=setting, function=made, is_own=is_own)


def _settings(kind: str, found: Callable[..., Any], algorithm: AlgorithmConfig) -> dict[str, Any]:
    """The value of each of its parameters that has one."""
    setting, given = f"algorithm.{kind}={getattr(algorithm, kind)}", getattr(algorithm, f"{kind}_args")
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(found).parameters.items()
        if inspect.isclass(found) or parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    shared = {spec.name for spec in fields(AlgorithmConfig)} & set(parameters)
    _check_names(setting, kind, parameters, shared, algorithm)
    hints = get_type_hints(found.__init__ if inspect.isclass(found) else found, include_extras=True)
    values = {name: getattr(algorithm, name) for name in shared}
    for name, value in given.items():
        values[name] = _checked(f"algorithm.{kind}_args.{name}", value, hints.get(name, Any))
    return values


def _check_names(
    setting: str, kind: str, parameters: Mapping[str, inspect.Parameter], shared: set[str], algorithm: AlgorithmConfig
) -> None:
    given = getattr(algorithm, f"{kind}_args")
    own = [name for name in parameters if name not in shared]
    for name in given:
        if name in shared:
            raise ConfigError(f"algorithm.{kind}_args.{name}: it is set by algorithm.{name}")
        if name not in own:
            raise ConfigError(
                f"algorithm.{kind}_args.{name}: {setting} has no such setting; it has {', '.join(own) or 'none'}"
            )
    for name, parameter in parameters.items():
        has_default = parameter.default is not inspect.Parameter.empty
        if name in shared and has_default:
            raise ConfigError(f"{setting}: {name} is set by algorithm.{name}, so that its own default has no effect")
        if name in own and name not in given and not has_default:
            raise ConfigError(f"{setting} needs algorithm.{kind}_args.{name}")
    check_read(algorithm, kind, shared)


def _checked(key: str, value: object, hint: Any) -> Any:
    """The value as its annotation has it; as strict as JSON, in which lists are what tuples are, too."""
    try:
        return TypeAdapter(hint).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise ConfigError(f"{key}={value}: {error.errors(include_url=False)[0]['msg']}") from error


def _check_places(setting: str, made: Callable[..., Any], num_given: int) -> None:
    if not callable(made):
        raise ConfigError(f"{setting} is a class without __call__")
    try:
        inspect.signature(made).bind(*[None] * num_given)
    except TypeError as error:
        told = "one argument" if num_given == 1 else f"{num_given} arguments"
        raise ConfigError(
            f"{setting} must take {told} by place, and its settings by keyword only (behind a *): {error}"
        ) from error
