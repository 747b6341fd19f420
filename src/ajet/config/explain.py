"""Hydra's and OmegaConf's many-line errors in, one line that names the valid choices out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from typing import Any, get_origin

from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException, ValidationError

from ajet.config.fields import NEEDED
from ajet.config.hydra_private import AMBIGUOUS
from ajet.config.options import GROUPS, field_types, group_of, leaves, option, owners, user_options
from ajet.config.store import group_options, groups
from ajet.config.user_options import is_user_entry
from ajet.config.words import FILTERS, WHY_NO_FILTERS, our_keys
from ajet.errors import AjetError

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
    if isinstance(error, AjetError):
        return " ".join(str(error).split())
    if isinstance(error, OverrideParseException):
        return _explain_unreadable(error.override)
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        return _explain_no_option(error.missing_cfg_file, error.options)
    # Hydra raises its own error from OmegaConf's where an override does not fit, and after it where a file does not.
    of_hydra = isinstance(error, ConfigCompositionException)
    cause = (error.__cause__ or error.__context__ or error) if of_hydra else error
    full_key = str(cause.full_key or "") if isinstance(cause, OmegaConfBaseException) else ""
    if isinstance(cause, ConfigKeyError | AttributeError) and full_key and not full_key.startswith("hydra"):
        key, holder = _as_written(full_key.replace("/", "."), overrides), getattr(cause, "object_type", None)
        return _explain_other_option(key, holder) or _explain_unknown_key(key, schema, holder, overrides)
    if isinstance(cause, ValidationError) and full_key:
        kind = _kind(full_key, schema, getattr(cause, "object_type", None))
        if kind is not None:
            return f"{full_key} must be {kind}{_given(full_key, overrides)}"
    text = str(error)
    if text.startswith(AMBIGUOUS):
        key = text.split("'")[1]
        return f"{key} has several values: write {key.replace('=', '=[', 1)}] for a list, or add -m for a sweep"
    for override in overrides:
        group, _, chosen = override.partition("=")
        if group in groups() and chosen not in group_options(group) and not is_user_entry(chosen):
            return f"{override}: no such option; choose one of {', '.join(group_options(group))}"
    if full_key:
        return f"{full_key}: {str(cause).partition(chr(10))[0]}"
    return " ".join((text if cause is error else f"{text}: {cause}").split())


def explain_missing(key: str, tree: DictConfig | None = None) -> str:
    """One line on a mandatory key without a value; `tree` says which options are chosen."""
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
    group, _, setting = key.partition(".")
    if tree is not None and group in GROUPS:
        name = tree[group][GROUPS[group].key]
        what = next(spec.metadata.get(NEEDED) for spec in fields(option(group, name)) if spec.name == setting)
        return f"{group}={name} needs {key}: {what or f'set {key}=...'}"
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


def _explain_no_option(asked: str, options: Sequence[str]) -> str:
    group, _, chosen = asked.rpartition("/")
    if group in ("hydra/launcher", "hydra/sweeper"):
        return f"{group}={chosen} is a plugin that is not installed: pip install 'ajet[sweeps]'"
    # A user's own, which another run of this process may have chosen, is not an option of everybody's.
    known = sorted(name for name in options if not is_user_entry(name))
    return f"{group}={chosen}: no such option; choose one of {', '.join(known)}"


def _as_written(full_key: str, overrides: Sequence[str]) -> str:
    """The key as the command line has it, of which OmegaConf names the first part that does not exist."""
    keys = [override.lstrip("+").partition("=")[0].replace("/", ".") for override in overrides]
    return next((key for key in keys if key == full_key or key.startswith(f"{full_key}.")), full_key)


def _explain_other_option(full_key: str, holder: Any) -> str | None:
    """Say which options of the group have a setting that the chosen one, `holder`, has not; None if none has it."""
    group, _, setting = full_key.partition(".")
    chosen = _option_name(group, holder)
    if chosen is None or not owners(group, setting.partition(".")[0]):
        return None
    others = "|".join(owners(group, setting.partition(".")[0]))
    return f"{full_key} has no effect with {group}={chosen}: drop it or choose {group}={others}"


def _option_name(group: str | None, holder: Any) -> str | None:
    """The name of the group's option whose dataclass this is; None if it is of none."""
    about = GROUPS.get(group or "")
    if about is None or not (isinstance(holder, type) and issubclass(holder, about.base)):
        return None
    return next(str(spec.default) for spec in fields(holder) if spec.name == about.key)


def _explain_unknown_key(full_key: str, schema: type, holder: Any, overrides: Sequence[str]) -> str:
    """Name what was meant, and the keys of the deepest node that exists; `holder` is the dataclass without the key."""
    node, path, own = schema, "", dict(user_options(overrides))
    for part in full_key.split("."):
        group = group_of(node)
        hints = field_types(holder if _option_name(group, holder) is not None else own.get(group or "", node))
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
    known = list(leaves(schema))
    keys = our_keys(full_key, known.__contains__) or our_keys(word, known.__contains__)
    namesakes = [key for key in known if key.rpartition(".")[2] == word and key not in keys]
    keys += namesakes if len(namesakes) < 4 else []  # a word that stands everywhere tells nothing
    # Of several the one of the group that was named.
    keys = [key for key in keys if key.startswith(f"{first}.")] or keys
    if keys:
        return f"did you mean {' or '.join(keys)}? "
    return suggestion(word, options) or ("" if "." in full_key else suggestion(word, known))


def suggest_key(word: str, schema: type) -> str:
    """`did you mean rollout.group_size? ` for a word of ours or of another library's, else nothing."""
    return _meant(word, [], schema)


def _kind(full_key: str, schema: type, holder: Any) -> str | None:
    """What a key takes, in words; None where neither the schema nor the dataclass that holds the value can say."""
    node: Any = schema
    for part in full_key.partition("[")[0].split("."):
        node = node if _option_name(group_of(node), holder) is None else holder
        if not is_dataclass(node) or part not in field_types(node):
            return None
        node = field_types(node)[part]
    return _KINDS.get(get_origin(node) or node)


def _given(full_key: str, overrides: Sequence[str]) -> str:
    for override in reversed(overrides):  # the last one counts
        key, _, value = override.lstrip("+").partition("=")
        if key == full_key:
            return f", not {value}"
    return ""
