"""Hydra's and OmegaConf's many-line errors in, one line that names the valid choices out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException, ValidationError

from ajet.config.hydra_private import AMBIGUOUS
from ajet.config.store import group_options, groups
from ajet.config.words import FILTERS, WHY_NO_FILTERS, our_keys

FREE_KEYS = ("workflow.params", "opponent.params", "data.fields", "own")
"""Mappings whose keys are the workflow's, so that any name may be set."""
_KINDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    list: "a list, e.g. [a,b]",
    dict: "a mapping",
}


def explain(error: Exception, schema: type, overrides: Sequence[str]) -> str:
    """One line for a user: what is wrong and what may stand there instead.

    Args:
        error: raised while composing, converting or validating.
        schema: the root dataclass, for the keys and types that exist.
        overrides: the command line's.
    """
    if isinstance(error, OverrideParseException):
        return _explain_unreadable(error.override)
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        if group in ("hydra/launcher", "hydra/sweeper"):
            return f"{group}={option} is a plugin that is not installed: pip install 'ajet[sweeps]'"
        return f"{group}={option}: no such option; choose one of {', '.join(sorted(error.options))}"
    cause = error.__cause__ if isinstance(error, ConfigCompositionException) and error.__cause__ else error
    full_key = str(cause.full_key or "") if isinstance(cause, OmegaConfBaseException) else ""
    if isinstance(cause, ConfigKeyError | AttributeError) and full_key and not full_key.startswith("hydra"):
        return _explain_unknown_key(_as_written(full_key.replace("/", "."), overrides), schema)
    if isinstance(cause, ValidationError) and full_key:
        kind = _kind(full_key, schema)
        if kind is not None:
            return f"{full_key} must be {kind}{_given(full_key, overrides)}"
    text = str(error)
    if text.startswith(AMBIGUOUS):
        key = text.split("'")[1]
        return f"{key} has several values: write {key.replace('=', '=[', 1)}] for a list, or add -m for a sweep"
    for override in overrides:
        group, _, option = override.partition("=")
        if group in groups() and option not in group_options(group):
            return f"{override}: no such option; choose one of {', '.join(group_options(group))}"
    if full_key:
        return f"{full_key}: {str(cause).partition(chr(10))[0]}"
    return " ".join((text if cause is error else f"{text}: {cause}").split())


def explain_missing(key: str) -> str:
    """One line on a mandatory key without a value."""
    if key == "workflow.entry":
        return (
            f"workflow is missing: choose workflow={'|'.join(group_options('workflow'))}; "
            "custom takes workflow.entry=path/file.py->Class"
        )
    examples = {
        "model.path": "a checkpoint directory or a hub id such as Qwen/Qwen3-0.6B",
        "run": "a run directory such as outputs/<date>/<time>",
        "runs": "a list of run directories, e.g. [outputs/<a>,outputs/<b>,base]",
    }
    return f"{key} is missing: set it to {examples.get(key, 'a value')}"


def suggestion(word: str, options: Sequence[str]) -> str:
    """`did you mean x? ` if an option is close, else nothing."""
    close = get_close_matches(word, options, n=1)
    return f"did you mean {close[0]}? " if close else ""


def _explain_unreadable(override: str) -> str:
    if "=" not in override:
        return f"cannot read {override}: settings are written key=value"
    key, _, value = override.partition("=")
    return f"""cannot read {override}: close brackets, and quote special characters, as in '{key}="{value}"'"""


def _as_written(full_key: str, overrides: Sequence[str]) -> str:
    """The key as the command line has it, of which OmegaConf names the first part that does not exist."""
    keys = [override.lstrip("+").partition("=")[0].replace("/", ".") for override in overrides]
    return next((key for key in keys if key == full_key or key.startswith(f"{full_key}.")), full_key)


def _explain_unknown_key(full_key: str, schema: type) -> str:
    """Name what was meant, and the keys of the deepest node that exists."""
    node, path = schema, ""
    for part in full_key.split("."):
        hints = _field_types(node)
        if part not in hints:
            options = sorted(hints)
            if not path and "workflow" in hints:  # an evaluation takes from its run what others compose from groups
                options = sorted({*options, *groups()})
            known = f"keys of {path}" if path else "groups and keys"
            return f"unknown key {full_key}: {_meant(full_key, options, schema)}{known}: {', '.join(options)}"
        node, path = hints[part], f"{path}.{part}" if path else part
        if not is_dataclass(node):
            break
    return f"unknown key {full_key}"


def _meant(full_key: str, options: Sequence[str], schema: type) -> str:
    """What a user who wrote an unknown key probably wanted, and of words that can have no meaning here why."""
    first, _, _ = full_key.partition(".")
    word = full_key.rpartition(".")[2]
    if word.lower() in FILTERS:
        return f"there is none, for {WHY_NO_FILTERS}; "
    known = list(_leaves(schema))
    keys = our_keys(full_key, known.__contains__) or our_keys(word, known.__contains__)
    namesakes = [key for key in known if key.rpartition(".")[2] == word and key not in keys]
    keys += namesakes if len(namesakes) < 4 else []  # a word that stands everywhere tells nothing
    # Of several the one of the group that was named.
    keys = [key for key in keys if key.startswith(f"{first}.")] or keys
    if keys:
        return f"did you mean {' or '.join(keys)}? "
    return suggestion(word, options) or ("" if "." in full_key else suggestion(word, known))


def _leaves(schema: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted key that can be set, sections excepted."""
    for name, kind in _field_types(schema).items():
        if is_dataclass(kind):
            yield from _leaves(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def suggest_key(word: str, schema: type) -> str:
    """`did you mean rollout.group_size? ` for a word of ours or of another library's, else nothing."""
    return _meant(word, [], schema)


def _field_types(schema: Any) -> dict[str, Any]:
    """Field name -> type without its `| None`."""
    hints = get_type_hints(schema)
    return {spec.name: _without_none(hints[spec.name]) for spec in fields(schema)}


def _without_none(hint: Any) -> Any:
    if get_origin(hint) in (Union, UnionType):
        return next(arg for arg in get_args(hint) if arg is not NoneType)
    return hint


def _kind(full_key: str, schema: type) -> str | None:
    """What a key takes, in words; None where the schema cannot say."""
    node: Any = schema
    for part in full_key.partition("[")[0].split("."):
        if not is_dataclass(node) or part not in _field_types(node):
            return None
        node = _field_types(node)[part]
    return _KINDS.get(get_origin(node) or node)


def _given(full_key: str, overrides: Sequence[str]) -> str:
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key == full_key:
            return f", not {value}"
    return ""
