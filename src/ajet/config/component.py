"""From a configuration to the component that it is of, where that is a class of a user's.

A component takes its own configuration first and, by name, what it needs of the run: of what a group offers, a class
is given what its `__init__` names. In: the two. Out: the object, or one sentence on what cannot be given.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from ajet.config.user_code.running import running_user_code
from ajet.errors import ConfigError


def construct(config: Any, setting: str, **offered: Any) -> Any:
    """An object of the configuration's `component`.

    Args:
        config: an option's configuration.
        setting: what chose it, with its value, for errors.
        offered: what it may ask for.

    Raises:
        ConfigError: what the user's code raised.
    """
    asked = {name: offered[name] for name in _asked(config.component) if name in offered}
    with running_user_code(setting):
        return config.component(config, **asked)


def check_component(component: type[Any], setting: str, *, offered: Sequence[str], methods: Sequence[str]) -> None:
    """Refuse a class that could not be constructed or used.

    Raises:
        ConfigError: what it lacks, or what it asks for and the run cannot give.
    """
    for method in methods:
        if not callable(getattr(component, method, None)):
            raise ConfigError(f"{setting}: {component.__name__} has no {method}; it needs {', '.join(methods)}")
    if not inspect.signature(component).parameters:
        raise ConfigError(f"{setting}: __init__ of {component.__name__} takes no configuration, which comes first")
    for name, parameter in _asked(component).items():
        if name not in offered and parameter.default is parameter.empty:
            raise ConfigError(
                f"{setting}: {component.__name__} asks for {name}; after its configuration it may ask for "
                f"{', '.join(offered) or 'nothing'}"
            )


def check_async(component: type[Any], setting: str, methods: Sequence[str]) -> None:
    """Refuse a class with a plain function where one is awaited.

    Raises:
        ConfigError: the first such method.
    """
    for method in methods:
        found = inspect.unwrap(getattr(component, method))
        if not inspect.iscoroutinefunction(found) and not inspect.iscoroutinefunction(type(found).__call__):
            raise ConfigError(
                f"{setting}: {method} of {component.__name__} is not async, and it is awaited: write async def {method}"
            )


def asked_names(component: type[Any]) -> set[str]:
    """What a class asks for behind its configuration."""
    return set(_asked(component))


def _asked(component: type[Any]) -> dict[str, inspect.Parameter]:
    """The parameters behind the configuration, by name."""
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = list(inspect.signature(component).parameters.values())[1:]
    return {parameter.name: parameter for parameter in parameters if parameter.kind not in variadic}
