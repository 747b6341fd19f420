"""Do a tool call's arguments fit the JSON schema that the request gave for the tool?

Only said, never enforced: what becomes of such a call is the agent program's business.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache

from jsonschema import Draft202012Validator, SchemaError
from jsonschema.exceptions import best_match
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable


def misfit(arguments: object, parameters: Mapping[str, object]) -> str | None:
    """What is wrong with the arguments, in words; None where they fit or the schema itself cannot be followed."""
    validator = _validator(json.dumps(parameters, sort_keys=True))
    if validator is None:
        return None
    try:
        error = best_match(validator.iter_errors(arguments))
    except (Unresolvable, RecursionError):
        return None
    if error is None:
        return None
    where = error.json_path.removeprefix("$").removeprefix(".")
    return f"{where}: {error.message}" if where else error.message


@lru_cache(maxsize=512)
def _validator(schema: str) -> Validator | None:
    """The validator of one tool, or None for a schema that is none.

    An empty registry, so that a reference to another document is never fetched.
    """
    parameters = json.loads(schema)
    kind = validator_for(parameters, default=Draft202012Validator)
    try:
        kind.check_schema(parameters)
    except SchemaError:
        return None
    return kind(parameters, registry=Registry())
