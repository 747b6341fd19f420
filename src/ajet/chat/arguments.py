"""Do a tool call's arguments fit the JSON schema that the request gave for the tool?

Only said, never enforced: what becomes of such a call is the agent program's business. Schemas are others' and some
cannot be followed: invalid ones, references into the void or in a circle, patterns of another language. Such a check
is given up and holds nothing against the reply. No check takes long: patterns run in linear time on Rust's engine,
which pydantic brings, and everything else counts its steps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from fractions import Fraction
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import best_match
from jsonschema.protocols import Validator
from jsonschema.validators import extend, validator_for
from jsonschema_specifications import REGISTRY
from pydantic_core import SchemaValidator, core_schema

MOST_STEPS = 20_000
"""Of one check; a step is a keyword on a value, or an entry of an enum. About a tenth of a second."""
MOST_SCHEMA_STEPS = 100_000
"""Of the look at a schema, once for each."""
LONGEST_SCHEMA = 2**18
"""Characters of the longest schema that is followed."""
_LONGEST_REASON = 500

Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]
"""(validator, the keyword's value, instance, schema) -> what is wrong."""

_steps_left: ContextVar[int] = ContextVar("steps_left")


class UncheckableError(Exception):
    """The check cannot be made."""


def schema_violation(arguments: object, parameters: Mapping[str, object]) -> str | None:
    """What is wrong with the arguments, in words; None where they fit.

    Raises:
        UncheckableError: the schema cannot be followed, or not in bounded time.
    """
    try:
        validator = _validator(json.dumps(parameters, sort_keys=True))
        if validator is None:
            raise UncheckableError
        error = _first_error(validator, arguments, MOST_STEPS)
    except Exception as tripped:  # the boundary to schemas that others write
        raise UncheckableError from tripped
    if error is None:
        return None
    where = error.json_path.removeprefix("$").removeprefix(".")
    reason = f"{where}: {error.message}" if where else error.message
    return reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}…"


def _first_error(validator: Validator, value: object, most_steps: int) -> ValidationError | None:
    _steps_left.set(most_steps)
    return best_match(validator.iter_errors(value))


@lru_cache(maxsize=256)
def _validator(schema: str) -> Validator | None:
    """The validator of one tool; None for a schema that cannot be followed, so that it is looked through only once."""
    if len(schema) > LONGEST_SCHEMA or _hides_steps(schema):
        return None
    try:
        parameters = json.loads(schema)
        kind = validator_for(parameters, default=Draft202012Validator)
        of_schemas = _bounded(validator_for(kind.META_SCHEMA, default=kind))(kind.META_SCHEMA, registry=REGISTRY)
        if _first_error(of_schemas, parameters, MOST_SCHEMA_STEPS) is not None:
            return None
        # The registry holds JSON schema's own documents; a reference to any other is not fetched.
        return _bounded(kind)(parameters, registry=REGISTRY)
    except Exception:  # the boundary to schemas that programs write: what cannot be followed is counted as unchecked
        return None


def _hides_steps(schema: str) -> bool:
    """Whether jsonschema would look for unevaluated parts in ways that are not counted below."""
    hidden = ('"patternProperties"', '"dependentSchemas"', '"$dynamicRef"', '"$recursiveRef"')
    return '"unevaluated' in schema and any(keyword in schema for keyword in hidden)


@lru_cache(maxsize=16)
def _bounded(kind: type[Validator]) -> Any:
    """The validator class of a draft whose checks end, whatever schema they follow."""
    own: dict[str, Keyword] = {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
        "multipleOf": _multiple_of,
        "divisibleBy": _multiple_of,
    }
    return extend(kind, {name: _counted(name, own.get(name, check)) for name, check in kind.VALIDATORS.items()})


def _counted(name: str, check: Keyword) -> Keyword:
    def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError] | None:
        size = len(instance) if isinstance(instance, str | list | dict) else 0
        num_steps = 1 + size // 256 + (len(value) if isinstance(value, list | dict) else 0)
        if name == "uniqueItems":
            num_steps += size**2 // 5  # entries that have no order are compared each with each
        left = _steps_left.get() - num_steps
        if left < 0:
            raise UncheckableError
        _steps_left.set(left)
        return check(validator, value, instance, schema)

    return counted


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not _matches(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "object"):
        for pattern, part in patterns.items():
            for key, value in instance.items():
                if _matches(pattern, key):
                    yield from validator.descend(value, part, path=key, schema_path=pattern)


def _additional_properties(validator: Any, allowed: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    extra = [key for key in instance if key not in known and not any(_matches(pattern, key) for pattern in patterns)]
    if validator.is_type(allowed, "object"):
        for key in extra:
            yield from validator.descend(instance[key], allowed, path=key)
    elif allowed is False and extra:
        yield ValidationError(f"there is no property {', '.join(map(repr, extra))}")


def _multiple_of(validator: Any, step: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    """By the decimals that were written: as floats, 19.99 is not a multiple of 0.01, and a long number overflows."""
    if validator.is_type(instance, "number") and (Fraction(str(instance)) / Fraction(str(step))).denominator != 1:
        yield ValidationError(f"{instance!r} is not a multiple of {step!r}")


def _matches(pattern: str, text: str) -> bool:
    return _compiled(pattern).isinstance_python(text)


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> SchemaValidator:
    """Raises what pydantic raises for a pattern that its engine does not know, such as one that looks ahead."""
    return SchemaValidator(core_schema.str_schema(pattern=pattern))
