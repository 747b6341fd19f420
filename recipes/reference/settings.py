"""The schemas and the YAML files -> `docs/reference/settings.md`.

In: the root dataclasses, those of the options, and `conf/`. Nothing is listed by hand, so a new section, option or
setting appears by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING as REQUIRED
from dataclasses import Field, dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml
from omegaconf import MISSING
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from recipes.reference.docstrings import class_docstring, field_docstrings, one_line
from recipes.reference.markdown import code, prose, table

from ajet.config.cli.commands import command_of
from ajet.config.fields import RULE, Rule
from ajet.config.options import GROUPS, options
from ajet.config.store import SCHEMAS, conf_dir, group_options, groups
from ajet.workflow import Workflow
from ajet.workflows.loading import load_workflow

INTRODUCTION = """# Settings

Every key that a command takes, made from the code by `python -m recipes.reference`. Keys are set as `key=value` on the
command line, groups as `group=option`; an option is a YAML file in `conf/<group>/` that sets several keys. A key that
does not exist, a value out of its bounds and a setting that the chosen option would not read are errors.

`python -m ajet.train --cfg job` prints what a command line comes to.
"""
_WORDS: dict[Any, str] = {int: "whole number", float: "number", bool: "true or false", str: "text", Any: "anything"}
_HEAD = ("key", "type", "default", "meaning")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One key.

    Example: `Setting(key="rollout.group_size", kind="whole number, at least 2", default="8", meaning="…")`.
    """

    key: str
    kind: str
    default: str
    meaning: str

    def row(self) -> tuple[str, str, str, str]:
        """The cells of its row."""
        return code(self.key), prose(self.kind), _shown(self.default), prose(self.meaning)


def _shown(default: str) -> str:
    return "required" if default == "required" else code(default)


def settings_page() -> str:
    """The whole page."""
    train = SCHEMAS["train"]
    parts = [INTRODUCTION, "## The run\n", _rows(_own_settings(train))]
    for name, section in _sections(train).items():
        parts += [f"## {name}\n", prose(class_docstring(section)) + "\n", _rows(settings(section, f"{name}."))]
        parts += [_options(name, section)] if name in groups() else []
    known = set(_sections(train))
    for group in groups():
        if group not in known:
            parts += [f"## {group}\n", _options(group, None)]
    parts += ["## Parameters of the built-in workflows\n", "Set as `workflow.params.<name>`.\n", *_parameters()]
    parts += ["## Other commands\n"]
    for name, schema in SCHEMAS.items():
        if name != "train":
            there = set() if name != "play" else {spec.name for spec in fields(train)}
            parts += [f"### python -m ajet.{command_of(name)}\n", prose(class_docstring(schema)) + "\n"]
            parts += [_rows([one for one in settings(schema) if one.key.partition(".")[0] not in there])]
    return "\n".join(part for part in parts if part)


def settings(schema: type, prefix: str = "") -> Iterator[Setting]:
    """Every key of a dataclass, those of the dataclasses in it by their dotted names."""
    kinds, meanings = get_type_hints(schema), field_docstrings(schema)
    for spec in fields(schema):
        if spec.name.startswith("_"):  # Hydra's own, such as `_target_`
            continue
        inner = _without_none(kinds[spec.name])
        if is_dataclass(inner) and isinstance(inner, type) and spec.default is not None:
            yield from settings(inner, f"{prefix}{spec.name}.")
            continue
        yield Setting(
            key=f"{prefix}{spec.name}",
            kind=_kind(kinds[spec.name], spec.metadata.get(RULE)),
            default=_default(spec),
            meaning=meanings.get(spec.name, ""),
        )


def _own_settings(schema: type) -> list[Setting]:
    """Keys of the root that are not a section."""
    sections = _sections(schema)
    return [one for one in settings(schema) if one.key.partition(".")[0] not in sections]


def _sections(schema: type) -> dict[str, type]:
    kinds = get_type_hints(schema)
    return {spec.name: kinds[spec.name] for spec in fields(schema) if is_dataclass(kinds[spec.name])}


def _rows(found: Iterator[Setting] | list[Setting]) -> str:
    return table(_HEAD, (one.row() for one in found))


def _options(group: str, section: type | None) -> str:
    """The options of a group: its files, and the dataclasses that are registered for it, with the keys of their own."""
    registered = options(group) if group in GROUPS else {}
    names = group_options(group)
    rows = []
    for name in names:
        path = conf_dir() / group / f"{name}.yaml"
        about, sets = _of_file(path, group, section) if path.is_file() else ("", "")
        schema = registered.get(name)
        about = about or (class_docstring(schema) if schema else "")
        rows.append((code(f"{group}={name}"), prose(about), sets))
    parts = [table(("option", "what", "sets"), rows)]
    common = {spec.name for spec in fields(section)} if section else set()
    for name in names:
        schema = registered.get(name)
        if schema is not None:
            own = [one for one in settings(schema, f"{group}.") if one.key.split(".")[1] not in common]
            parts += [f"With `{group}={name}` also:\n", _rows(own)] if own else []
    return "\n".join(parts)


def _of_file(path: Path, group: str, section: type | None) -> tuple[str, str]:
    """The comment that a file begins with, and the values that are not the schema's default."""
    lines = path.read_text().splitlines()
    comments = []
    for line in lines:
        if line.startswith("# @"):
            continue
        if not line.startswith("#"):
            break
        comments.append(line.removeprefix("#").strip())
    content = yaml.safe_load(path.read_text()) or {}
    whole = "# @package _global_" in lines
    overrides = [_written(choice) for choice in content.pop("defaults", []) if isinstance(choice, dict)]
    usual = {one.key: one.default for one in settings(SCHEMAS["train"])}
    values = [
        f"{key}={value}"
        for key, value in _flat(content, "" if whole else f"{group}.")
        if usual.get(key) != value and value not in ("{}", "[]")
    ]
    return one_line(" ".join(comments)), " ".join(map(code, [*overrides, *values]))


def _written(choice: Mapping[str, str]) -> str:
    (key, value), *_ = choice.items()
    return f"{key.removeprefix('override ').removeprefix('/')}={value}"


def _flat(content: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in content.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _yaml(value)


def _parameters() -> Iterator[str]:
    common = set(Workflow.model_fields)
    for name in group_options("workflow"):
        if name == "custom":
            continue
        kind = load_workflow(
            str(yaml.safe_load((conf_dir() / "workflow" / f"{name}.yaml").read_text())["workflow"]["entry"])
        )
        meanings = field_docstrings(kind)
        rows = [
            (
                code(field),
                prose(_kind(info.annotation, None) + _pydantic_bounds(info)),
                _shown(_pydantic_default(info)),
                prose(meanings.get(field, info.description or "")),
            )
            for field, info in kind.model_fields.items()
            if field not in common
        ]
        about = f"### {name}\n\n{prose(class_docstring(kind))}\n"
        yield about + "\n" + (table(("name", *_HEAD[1:]), rows) or "It takes none.\n")


def _pydantic_bounds(info: FieldInfo) -> str:
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    bounds = [
        (words[n], getattr(rule, n)) for rule in info.metadata for n in words if getattr(rule, n, None) is not None
    ]
    return "".join(f", {word} {bound:g}" for word, bound in bounds)


def _pydantic_default(info: FieldInfo) -> str:
    default = info.get_default(call_default_factory=True, validated_data={})
    return "required" if default is PydanticUndefined else _yaml(default)


def _kind(hint: Any, rule: Rule | None) -> str:
    """Type and bounds in words, e.g. `whole number, at least 1, or null`."""
    if get_origin(hint) in (Union, UnionType):
        inner = [_kind(arg, rule) for arg in get_args(hint) if arg is not NoneType]
        return " or ".join(inner) + (", or null" if NoneType in get_args(hint) else "")
    if rule is not None and rule.choices:
        return "one of " + ", ".join(f"`{choice}`" for choice in rule.choices)
    if get_origin(hint) in (list, tuple):
        return f"list of: {_kind(get_args(hint)[0], rule)}"
    if get_origin(hint) is dict:
        return f"mapping to: {_kind(get_args(hint)[1], rule)}"
    word = _WORDS.get(hint) or _choices(hint) or str(getattr(hint, "__name__", hint))
    if rule is None:
        return word
    bounds = {"at least": rule.at_least, "above": rule.above, "at most": rule.at_most, "below": rule.below}
    return word + "".join(f", {name} {bound:g}" for name, bound in bounds.items() if bound is not None)


def _choices(hint: Any) -> str:
    """Of a Literal or an Enum."""
    named = get_args(hint) or [member.value for member in getattr(hint, "__members__", {}).values()]
    return "one of " + ", ".join(f"`{choice}`" for choice in named) if named else ""


def _without_none(hint: Any) -> Any:
    if get_origin(hint) in (Union, UnionType):
        return next(arg for arg in get_args(hint) if arg is not NoneType)
    return hint


def _default(spec: Field[Any]) -> str:
    if spec.default_factory is not REQUIRED:
        return _yaml(spec.default_factory())
    return "required" if spec.default is REQUIRED or spec.default == MISSING else _yaml(spec.default)


def _yaml(value: Any) -> str:
    """As one would write it on the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        # PyYAML takes 6e-4 for a text, which OmegaConf does not.
        return _number(value)
    if isinstance(value, float):
        return _number(repr(value))
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_yaml, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}: {_yaml(entry)}" for key, entry in value.items()) + "}"
    return str(value)


def _number(text: str) -> str:
    try:
        return f"{float(text):g}" if "e" in text or "." in text else text
    except ValueError:
        return text
